// Package server is the shell around the sync machines: it accepts WebSocket
// connections, drives [session.Conn] and [session.Document], commits what they
// accept to a [store.Store], and answers health checks.
//
// It decides nothing of the protocol: read, step, commit, send. Only cmd/parley
// imports it; it never imports the client.
//
// # Goroutines
//
// A connection has a reader and a writer. The reader steps the connection's
// machine and posts inputs to documents; the writer sends what stands in the
// connection's outbox. A document has no goroutine while nothing happens to it:
// the first post starts one, which steps the document's machine until its inbox
// is empty. Nothing else touches the machine, so it needs no lock. The store's
// committer reports durability by posting too.
//
// # Slow peers
//
// The change graph is the queue. An outbox holds a bounded number of bytes;
// while it is full, documents only note that the connection has something to
// pull, and one message with everything that is missing is made when there is
// room. Only ephemeral frames queue, and the oldest are dropped.
package server
