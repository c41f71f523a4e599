// Package postgres keeps a store's rows in PostgreSQL, where several processes may
// append to the same documents. It is the backend of a [store.Store]; what a store
// promises is said there. It may be imported by the server's commands.
//
// # One line of changes per document
//
// A document's row holds how many changes, settings and resolutions it has: its
// version. A commit locks the rows of all the documents that it appends to, in the
// order of their ids, numbers what it appends from there on, and writes the new
// version; the locks go with the commit. So
//
//   - the numbers of a document have no gaps, and who has read up to n has read
//     everything up to n: what gets a number later is committed later;
//   - no two commits wait for each other in a circle;
//   - a batch that says what it was built on ([store.Batch.Base]) is appended to
//     exactly that or not at all. A process checks changes against all that stands
//     before them, on disk and in memory, in the same order. There is one line, and
//     no fork of it;
//   - of two processes that find everybody ready, one adds the resolution: the
//     other's was built on a version that is no more. There is also a unique index
//     over the heads.
//
// # What is done twice
//
// If the connection breaks at the commit nobody knows whether it was. It is made
// again, on another connection; locking the rows waits for what became of the
// first. What a batch was to append and finds at the numbers that it would have had
// is its own, and done.
//
// # Failures
//
// A lost connection, a database that starts, stops, is full, or takes no writes
// because another one took over, stalls the store ([store.StalledError]); what waits
// is committed when it is back. A process that stops in the midst of a commit is
// cut off by the database after a few seconds, so that its locks do not stay.
package postgres
