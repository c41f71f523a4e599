// Package store keeps documents on disk: their changes, forever and in the
// order in which they were committed, and the newest snapshot of each.
//
// It is one SQLite database in one folder, used by one process at a time. It is
// not a cache, knows nothing of sync or of who is connected, and does not judge
// changes: they were checked before they came here. It may be imported by the
// server and its commands.
//
// # Commits
//
// One goroutine, the committer, writes. It joins whatever waits into one
// transaction, waits for the disk, and then calls each batch's Done, in order.
// A lone change is committed at once. While the disk works the next transaction
// gathers by itself, and for as long again, at most 2 ms, before it is begun.
//
// Each change goes straight to the row that it keeps, beside the others of its
// document: there is no journal that would be moved there later. That would save a
// tenth to a fifth of the server's work, and be a second place for every reader,
// check and backup to know.
//
// # Failures
//
// A full disk, a failing disk or a folder that cannot be written stops
// acknowledgements, not the process. The transaction is kept and tried again
// with a pause that grows from 100 ms to 2 s, until it is on disk; [Store.Status]
// says why and since when, and one line is logged at the first failure and one
// at the recovery. The connection is opened anew before each further try, so
// that nothing of the failed one is trusted. What waits is bounded by
// [Options.MaxPending]; beyond that batches are refused with [ErrOverloaded].
//
// A transaction that fails for a reason that will not pass is committed batch
// by batch, and the guilty one gets the error.
//
// A transaction may fail and be on disk nevertheless. Trying again is safe
// because a change is stored once per document, whatever is appended.
//
// # What is checked
//
// Load compares the SHA-256 of every uncompressed change with its hash, of a
// compressed change the four checksum bytes only (inflating would cost more
// than the whole load), and the SHA-256 of a snapshot. A damaged change fails the
// load with [*DamagedError]; a damaged snapshot is left out, because the changes
// say all that it says. SQLite's own check reads the whole file and is left to
// [Reading.Integrity].
//
// # Copies
//
// [Read] reads a store beside the process that has it open, as it is, damage
// included. [Backup] and [Restore] copy one to a file and back.
//
// # When a snapshot is made
//
// See [SnapshotDue].
package store
