package session

import (
	"time"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// Input is what can happen to a document. The set is closed.
type Input interface{ input() }

// SyncInput is a request or sync frame from a peer, its changes decoded.
type SyncInput struct {
	From    Peer
	Request bool              // the peer has nothing and asks for the document
	Message *protocol.Message // without its changes
	Changes []Decoded

	size int // about what the changes take in memory, in bytes
}

// Decoded is one change of a message: the change, or why the gate refused it.
type Decoded struct {
	Change  *crdt.Change
	Refusal *crdt.Refusal
	Deps    []crdt.Hash // of a refused change; nil if they cannot be told
}

// UnavailableInput is a doc-unavailable frame: the peer does not have it.
type UnavailableInput struct{ From Peer }

// EphemeralInput is an ephemeral message that the peer itself wrote.
type EphemeralInput struct {
	From    Peer
	Message wire.Ephemeral
}

// RemoteHeadsInput is what a peer says of the heads of other stores.
type RemoteHeadsInput struct {
	From  Peer
	Heads []wire.RemoteHeads
}

// SubscribeInput changes which stores' heads a connection wants to hear of.
type SubscribeInput struct {
	From        Peer
	Add, Remove []wire.StorageID
}

// GoneInput says that a connection has ended. Goodbye: its client had said so.
type GoneInput struct {
	Conn    ConnID
	Goodbye bool
}

// DroppedInput says that droppable frames for a connection were dropped, and that
// there is room again.
type DroppedInput struct{ Conn ConnID }

// MeasuredInput is a connection's round trip time, measured just now.
type MeasuredInput struct {
	Conn      ConnID
	RoundTrip time.Duration
}

// SettingsComingInput says that a transaction's other settings are on their way to
// the disk: a [SettingsInput] follows.
type SettingsComingInput struct{}

// SettingsInput says what a transaction's settings are now, on disk.
type SettingsInput struct{ Settings presence.Settings }

// SealedInput says that the resolution which a [Seal] asked for is on disk, with
// the checkpoint that was signed for it, "" for none.
type SealedInput struct{ Checkpoint string }

// DurableInput says that the first N changes of the graph are on disk.
type DurableInput struct{ N int }

// FailedInput says that a commit failed for good: what is in memory can no
// longer be trusted to reach the disk, and the document must be dropped.
type FailedInput struct {
	// Overloaded: only because too much waits for the disk.
	Overloaded bool
}

// SnapshotInput hands over a newer snapshot of the document.
type SnapshotInput struct{ Snapshot *crdt.Snapshot }

// ElsewhereInput is what the row of another node holds of the document, which that
// node's [Publish] made: all that there is of it. Nil data: there is no such row.
// An older one than the last that was heard does nothing; with Seq 0 it counts
// whatever was heard.
type ElsewhereInput struct {
	Node presence.Node
	Seq  uint64
	Data []byte
}

// SilentInput says that another node's lease has run out.
type SilentInput struct{ Node presence.Node }

// PublishedInput says that what a [Publish] with this number or a later one asked for
// is stored.
type PublishedInput struct {
	N uint64
	// Unstored: it is not, but this node's lease has run out for certain, so that
	// nobody counts on what it had stored before. When it is stored, that is said too.
	Unstored bool
}

// ForgottenInput says that what this node published is stored no more. It is
// published again.
type ForgottenInput struct{}

// RelayedInput is a message from another node, which a [Relay] there
// asked to be passed on.
type RelayedInput struct{ Data []byte }

// StalledInput says whether nothing gets to the disk at the moment.
type StalledInput struct{ Stalled bool }

// DrainingInput says that the server ends: nothing is agreed on by it any more.
type DrainingInput struct{}

// TickInput lets time pass for a document: it is due at [Document.Wake].
type TickInput struct{}

func (*SyncInput) input()           {}
func (*UnavailableInput) input()    {}
func (*EphemeralInput) input()      {}
func (*RemoteHeadsInput) input()    {}
func (*SubscribeInput) input()      {}
func (*GoneInput) input()           {}
func (*DroppedInput) input()        {}
func (*MeasuredInput) input()       {}
func (*SettingsComingInput) input() {}
func (*SettingsInput) input()       {}
func (*SealedInput) input()         {}
func (*DurableInput) input()        {}
func (*FailedInput) input()         {}
func (*SnapshotInput) input()       {}
func (*ElsewhereInput) input()      {}
func (*SilentInput) input()         {}
func (*PublishedInput) input()      {}
func (*ForgottenInput) input()      {}
func (*RelayedInput) input()        {}
func (*StalledInput) input()        {}
func (*DrainingInput) input()       {}
func (*TickInput) input()           {}

// Output is what a document's shell has to do. The set is closed.
type Output interface{ output() }

// Commit asks for the changes with indices From (inclusive) to To (exclusive)
// of the graph to be made durable, then for a [DurableInput] of To. Nothing
// about them leaves the process before that.
type Commit struct{ From, To int }

// Seal asks for a resolution to be made durable, behind every commit that was
// asked for before, then for a [SealedInput]. Nothing about it leaves the process
// before that.
type Seal struct {
	Resolution presence.Resolution
	// Relies are the rows of other nodes by which it was made, each with its number. If
	// others stand there when it is to be stored, it must not be: then this machine
	// first hears of them by [ElsewhereInput] and [SilentInput], and after that by
	// [News] that it was overtaken. Nil if the store is not shared.
	Relies map[presence.Node]uint64
}

// Publish asks for this node's row of the document to be replaced with Data, or to be
// deleted if that is nil, then for a [PublishedInput]. N rises, and one is on its way
// at a time. Until it is stored some of what it holds is told to nobody.
type Publish struct {
	N    uint64
	Data []byte
}

// Relay asks for a message to be passed on to the other nodes that have the document,
// which hear it by [RelayedInput]. It may be lost.
type Relay struct{ Data []byte }

// Pending says that [Document.Pull] may have a sync message for Conn: call it
// when the connection can take a frame. It is said once until the next Pull.
type Pending struct{ Conn ConnID }

// Send is a frame for Conn that is not made by Pull.
type Send struct {
	Conn  ConnID
	Frame []byte
	// Droppable frames may be dropped, oldest first, when Conn is slow: ephemeral
	// messages carry no promise. A [DroppedInput] says so: the last of them may
	// have been how it stands.
	Droppable bool
}

// Held changes the number of bytes that are kept on behalf of Conn alone: changes
// that wait for dependencies, and what it said of itself. The shell keeps the sum
// over all documents.
type Held struct {
	Conn  ConnID
	Bytes int
}

// Refused reports changes that the gate turned away in one step with the code of
// First, for the shell to count.
type Refused struct {
	Conn  ConnID
	First *crdt.Refusal
	Count int
}

// Disconnect asks the shell to end Conn.
type Disconnect struct {
	Conn ConnID
	Close
}

func (Commit) output()     {}
func (Seal) output()       {}
func (Publish) output()    {}
func (Relay) output()      {}
func (Pending) output()    {}
func (Send) output()       {}
func (Held) output()       {}
func (Refused) output()    {}
func (Disconnect) output() {}
