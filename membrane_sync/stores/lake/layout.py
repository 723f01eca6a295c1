"""The tables of a lake's file, by the version of their layout."""

from __future__ import annotations

FORMAT = 2
"""Version of the file's layout; a file of a newer version is refused."""

_SINCE_2 = """
CREATE SCHEMA lake.history;
CREATE TABLE lake.found_fields (stream VARCHAR, field VARCHAR, type VARCHAR, position BIGINT);
CREATE TABLE lake.schema_changes (
    stream VARCHAR, column_name VARCHAR, from_type VARCHAR, to_type VARCHAR, changed_at TIMESTAMP,
    run_id VARCHAR);
CREATE TABLE lake.discarded (stream VARCHAR, field VARCHAR, records BIGINT, last_at TIMESTAMP);
"""

UPGRADES = {2: _SINCE_2}
"""What makes a file of the version before into one of this version."""

LAYOUT = f"""
CREATE SCHEMA lake.records;
CREATE SCHEMA lake.mapped;
CREATE TABLE lake.format (version INTEGER);
CREATE TABLE lake.declarations (name VARCHAR, columns JSON);
CREATE TABLE lake.counters (name VARCHAR, value BIGINT);
CREATE TABLE lake.cursors (
    stream VARCHAR, cursor JSON, run_id VARCHAR, updated_at TIMESTAMP);
CREATE TABLE lake.tombstones (stream VARCHAR, external_id VARCHAR, hash UBIGINT);
CREATE TABLE lake.readings (stream VARCHAR, reading VARCHAR, pages BIGINT);
CREATE TABLE lake.changes (
    seq BIGINT, stream VARCHAR, external_id VARCHAR USING COMPRESSION uncompressed, kind VARCHAR,
    run_id VARCHAR, changed_at TIMESTAMP);
CREATE TABLE lake.scans (stream VARCHAR, scan VARCHAR, external_id VARCHAR);
CREATE TABLE lake.finished_scans (stream VARCHAR, finished_at TIMESTAMP);
CREATE TABLE lake.offsets (
    consumer VARCHAR, seq BIGINT, version VARCHAR, updated_at TIMESTAMP);
CREATE TABLE lake.links (
    link_table VARCHAR, instance_key VARCHAR, external_id VARCHAR, app_id VARCHAR,
    direction VARCHAR, external_hash VARCHAR, app_hash VARCHAR, base JSON, linked_at TIMESTAMP,
    synced_at TIMESTAMP);
CREATE TABLE lake.dead_letters (
    verb VARCHAR, element VARCHAR, external_id VARCHAR, field VARCHAR, reason VARCHAR,
    value VARCHAR, formula VARCHAR, failed_at TIMESTAMP);
INSERT INTO lake.format VALUES ({FORMAT});
INSERT INTO lake.counters VALUES ('changes', 0), ('mapped', 0);
{_SINCE_2}
"""
