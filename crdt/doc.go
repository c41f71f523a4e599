// Package crdt is a document as its changes tell it: it decodes changes, checks
// them, and keeps their graph.
//
// It is the gate between peers and everything else. A change from a peer
// passes [DecodeChange], which checks it by itself, and [Document.Add], which
// checks it against the document; nothing else may see its bytes before. What
// does not pass is answered with a [Refusal].
//
// It is not a store (what it accepts is in memory until the caller has written
// it and says so, see [Graph.MarkDurable]), it speaks no protocol, and but for
// snapshots it calls no engine. It is pure: no IO, clock, goroutine or lock.
// Every package of Parley may import it.
package crdt
