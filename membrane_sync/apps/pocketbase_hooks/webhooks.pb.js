// Webhooks for PocketBase: put this and webhooks.js into its pb_hooks folder.
//
// Who wants to know of a collection is a record of the collection `webhooks`, with the fields
// `url`, `secret` and `collection`.
onRecordAfterCreateSuccess((e) => {
  require(`${__hooks}/webhooks.js`).tell("created", e)
  e.next()
})
onRecordAfterUpdateSuccess((e) => {
  require(`${__hooks}/webhooks.js`).tell("updated", e)
  e.next()
})
onRecordAfterDeleteSuccess((e) => {
  require(`${__hooks}/webhooks.js`).tell("deleted", e)
  e.next()
})
