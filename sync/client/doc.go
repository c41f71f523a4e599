// Package client is Parley's client in Go: one user's replica of one
// transaction. It works without a connection from the first moment, keeps what
// it is told on disk before it says so, and brings it to the server when there
// is one.
//
// It decides nothing of what a pick is or who may make one: package
// crdt/transaction does, and the server checks it again. It holds one
// transaction; open another client for another one. Programs that talk to a
// Parley server import it; it imports no server code. It needs cgo only because
// package crdt links Automerge's engine for making snapshots, which a client
// never calls.
//
// One goroutine, the keeper, owns the replica: everything else posts to it.
// Another dials, and while there is a connection, one reads it and one writes
// it.
package client
