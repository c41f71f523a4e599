// Package audit is what proves a transaction to somebody who trusts nobody: the
// receipts of its changes, the Merkle log that they are the leaves of, the signed
// statement over it, the record that holds all of it in one file, and the
// verification of such a file.
//
// It is pure, and shares nothing with the server that writes records but what a
// change is (crdt, crdt/transaction) and what a resolution is (sync/presence):
// FORMAT.md says enough for a stranger to write another verifier. The server and
// the command line import it.
package audit
