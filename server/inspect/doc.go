// Package inspect finds out whether a store, or a backup of one, is as Parley wrote
// it: the database's structure, its schema, and of each document the changes with
// their hashes, dependencies and receipts, what it is settled by, the agreements
// with what was signed of them, and what is kept for speed.
//
// It reads through [store.Reading], beside a server that may be running, one document
// at a time, and mends nothing. What it cannot see: a damaged or altered row that
// was written again with all its hashes, where nothing that was signed is over it,
// and the last changes of a document if they are gone without a trace. Commands
// import it.
package inspect
