// Package forge makes Automerge change chunks, sync messages and
// automerge-repo frames for tests: honest ones, and hostile ones that differ
// from an honest one in exactly the intended place.
//
// A [Change] is what a change means; its [Layout] is the same change cut into
// its fields and columns, each as the bytes it has on the wire, any of which may
// be replaced; [Layout.Chunk] puts them together and repairs lengths and
// checksum, unless those are what is to be wrong. [Writer] makes honest
// histories, [Mutator] makes wrong ones at random, [Cases] lists the hostile
// ones that have a name.
//
// It is no codec for production: it trusts its caller, panics when a test asks
// for nonsense, and imports nothing of Parley, so that it cannot agree with a
// mistake of the code it tests. Only tests, and the generator of
// testdata/hostile, may import it.
package forge
