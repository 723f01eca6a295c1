"""Start third-party apps on loopback, for the demo and the tests.

Nothing here knows the framework: each module installs one app into a virtual environment of its
own, runs it on 127.0.0.1, and offers the few calls needed to fill it and to look at the truth.

    with start_kinto(Path(".membrane/apps/kinto")) as kinto:
        ann = kinto.create_account("ann", "secret")
"""
