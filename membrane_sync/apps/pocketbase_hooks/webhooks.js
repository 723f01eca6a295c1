// Sends a change of a record to all who subscribed to its collection, signed with their secret.
module.exports = {
  tell: (change, e) => {
    const name = e.record.collection().name
    if (name === "webhooks" || e.record.collection().system) return
    let subscribers = []
    try {
      subscribers = $app.findRecordsByFilter("webhooks", "collection = {:name}", "", 0, 0, { name: name })
    } catch (_) {
      return // Nobody has made a collection of subscribers here.
    }
    const body = JSON.stringify({
      id: $security.randomString(15),
      at: new Date().toISOString(),
      change: change,
      collection: name,
      record: e.record,
    })
    for (const subscriber of subscribers) {
      const signature = $security.hs256(body, subscriber.getString("secret"))
      try {
        $http.send({
          url: subscriber.getString("url"),
          method: "POST",
          body: body,
          headers: { "content-type": "application/json", "x-webhook-signature": "sha256=" + signature },
          timeout: 5,
        })
      } catch (error) {
        // Sent once: who misses it finds the change by asking.
        console.log("WEBHOOK", subscriber.id, error)
      }
    }
  },
}
