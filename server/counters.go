package server

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
	"parley/sync/session"
)

// Counts are how often things have happened since the server started.
type Counts struct {
	TokensRefused   uint64 // connections whose token was no good, or of nobody
	TokensRevoked   uint64 // connections of those whose token was taken back
	TokensExpired   uint64 // open connections whose token ran out, or was outdated
	PeerIDsRefused  uint64 // connections with a peer id of somebody else's
	UserConnsOver   uint64 // connections over [Quotas].UserConns
	AddressesOver   uint64 // connections over AddressConns or NewConns
	FramesSlowed    uint64 // frames that waited
	ConnsOverFrames uint64 // connections closed for their frames
	RequestsOver    uint64 // HTTP requests that were turned away
}

// counters are what a server counts as it happens, all in one place; [Server.Counts]
// and /metrics look at them. What is of one connection is counted there ([traffic]),
// and what the store and the registry know is theirs to tell.
type counters struct {
	tokensRefused, tokensRevoked, tokensExpired, peerIDsRefused atomic.Uint64
	userConnsOver, addressesOver, framesSlowed, connsOverFrames atomic.Uint64
	requestsOver                                                atomic.Uint64

	joins                          atomic.Uint64
	refused                        [numRefusals]atomic.Uint64 // changes, by code
	resolutions, lapses            atomic.Uint64
	snapshotsMade, snapshotsFailed atomic.Uint64
	online, reconnecting, ready    atomic.Int64 // participants in all documents now

	published, publishFailed atomic.Uint64 // what documents say to other servers of who is here
	sealsRefused             atomic.Uint64 // because of what others had published

	relayedSent, relayedReceived, relayedDropped, relayedTooLong atomic.Uint64 // messages

	synced prometheus.Histogram // seconds from a frame to the acknowledgement of its changes
}

func newSynced() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "parley_sync_duration_seconds",
		Help:    "From a frame with new changes, read whole, until its document knows that they are on disk and acknowledges them.",
		Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15), // to 4.1 s
	})
}

// Counts returns how often things have happened.
func (s *Server) Counts() Counts {
	c := &s.counters
	return Counts{
		TokensRefused: c.tokensRefused.Load(), TokensRevoked: c.tokensRevoked.Load(),
		TokensExpired: c.tokensExpired.Load(), PeerIDsRefused: c.peerIDsRefused.Load(),
		UserConnsOver: c.userConnsOver.Load(), AddressesOver: c.addressesOver.Load(),
		FramesSlowed: c.framesSlowed.Load(), ConnsOverFrames: c.connsOverFrames.Load(),
		RequestsOver: c.requestsOver.Load(),
	}
}

// traffic is the frames of one connection: each direction has one writer, and
// whoever wants to know adds up the connections, and what has been of those that
// are gone.
type traffic struct{ in, out flow }

// flow counts frames in one direction. It is part of the way of every frame: no
// allocation, no lock, nothing to look up.
type flow struct {
	frames [numFrameKinds]atomic.Uint64
	bytes  atomic.Uint64
}

func (f *flow) count(kind frameKind, bytes int) {
	f.frames[kind].Add(1)
	f.bytes.Add(uint64(bytes))
}

func (f *flow) add(other *flow) {
	for i := range f.frames {
		f.frames[i].Add(other.frames[i].Load())
	}
	f.bytes.Add(other.bytes.Load())
}

// past is what has been of connections that are gone. The lock of [peers] guards it.
type past struct {
	accepted uint64 // also of those that are still here
	ended    [numEnds]uint64
	dropped  uint64 // ephemeral frames
	traffic  traffic
}

func (p *past) take(c *conn) {
	p.dropped += c.out.drops()
	p.traffic.in.add(&c.traffic.in)
	p.traffic.out.add(&c.traffic.out)
}

// frameKind is what /metrics tells frames apart by.
type frameKind int

const (
	frameSync frameKind = iota
	frameEphemeral
	frameOther // joins, errors, refusals, subscriptions, and what comes to nothing
	numFrameKinds
)

var frameKinds = [numFrameKinds]string{"sync", "ephemeral", "other"}

// kindOf is the kind of a frame that came to ev.
func kindOf(ev session.Event) frameKind {
	if ev, ok := ev.(session.Deliver); ok {
		switch ev.Input.(type) {
		case *session.SyncInput:
			return frameSync
		case *session.EphemeralInput:
			return frameEphemeral
		}
	}
	return frameOther
}

// kindOfSend is the kind of a frame that a document has for a peer, which is none
// that is pulled.
func kindOfSend(s session.Send) frameKind {
	if s.Droppable {
		return frameEphemeral
	}
	return frameOther
}

// endReason is why a connection ended, as /metrics has it.
type endReason int

// The reasons without a close code of ours, before those with one.
const (
	endOther  endReason = iota
	endGone             // by its client, or the network
	endSilent           // it gave no sign of life
	numSpecialEnds
)

// closeReasons name the codes with which the server closes.
var closeReasons = [...]struct {
	code session.CloseCode
	name string
}{
	{session.CloseNormal, "left"},
	{session.CloseBadFrame, "bad_frame"},
	{session.CloseUnauthorized, "unauthorized"},
	{session.CloseRevoked, "revoked"},
	{session.CloseVersion, "version"},
	{session.CloseJoinTimeout, "join_timeout"},
	{session.CloseReplaced, "replaced"},
	{session.CloseTooLarge, "too_large"},
	{session.CloseBadChange, "bad_change"},
	{session.CloseInternal, "internal"},
	{session.CloseExpired, "expired"},
	{session.CloseRestarting, "restarting"},
	{session.CloseTooMany, "too_many"},
	{session.CloseOverloaded, "overloaded"},
}

const numEnds = int(numSpecialEnds) + len(closeReasons)

// endNames are the label values, by endReason.
var endNames = func() (names [numEnds]string) {
	names[endOther], names[endGone], names[endSilent] = "other", "gone", "silent"
	for i, r := range closeReasons {
		names[int(numSpecialEnds)+i] = r.name
	}
	return names
}()

// ended is why a connection ended, once its outbox is finished; itself: nothing of
// the server's was the reason.
func (c *conn) ended(itself bool) endReason {
	code := c.out.ending().Code
	switch {
	case !itself && code != 0: // 0: it could not be written to
	case c.silent.Load():
		return endSilent
	default:
		return endGone
	}
	for i, r := range closeReasons {
		if r.code == code {
			return numSpecialEnds + endReason(i)
		}
	}
	return endOther
}

// refusalCodes are those with which changes are refused.
var refusalCodes = [...]crdt.Code{
	crdt.CodeFraming, crdt.CodeChangeSize, crdt.CodeDeflate, crdt.CodeChecksum, crdt.CodeHeader, crdt.CodeDeps,
	crdt.CodeActors, crdt.CodeCounter, crdt.CodeExtra, crdt.CodeColumns, crdt.CodeTooManyOps, crdt.CodeAction,
	crdt.CodeKey, crdt.CodeReference, crdt.CodeValue, crdt.CodeMark, crdt.CodePreds, crdt.CodeDuplicateKey,
	crdt.CodeSequence, crdt.CodeStartOp, crdt.CodeUnknownObject, crdt.CodeObjectType, crdt.CodeUnknownElement,
	crdt.CodeUnknownPred, crdt.CodeIncrement, crdt.CodeDepth, crdt.CodeDocumentSize, crdt.CodeTooManyHeads,
	transaction.CodeGenesis, transaction.CodeReadOnly, transaction.CodeForeignActor, transaction.CodePath,
	transaction.CodePick, transaction.CodePickEdited, transaction.CodeNotAuthor, transaction.CodeNotHost,
	transaction.CodeField, transaction.CodeFieldEdited, transaction.CodeName, transaction.CodeSize, transaction.CodeTooMany,
	session.CodeDependsOnRefused, session.CodePlainDocument, presence.CodeSealed,
}

// numRefusals counts one more, for any other code.
const numRefusals = len(refusalCodes) + 1

var refusalIndex = func() map[crdt.Code]int {
	index := make(map[crdt.Code]int, len(refusalCodes))
	for i, code := range refusalCodes {
		index[code] = i
	}
	return index
}()

// refuse counts changes that the gate turned away.
func (c *counters) refuse(r session.Refused) {
	i, ok := refusalIndex[r.First.Code]
	if !ok {
		i = numRefusals - 1
	}
	c.refused[i].Add(uint64(r.Count))
}

// arrival is a frame with new changes that is not acknowledged.
type arrival struct {
	upTo int           // length of the graph that is durable then
	at   time.Duration // since the server's start
}

// arrived takes note of a frame that was stepped, if it brought changes: there were
// so many before.
func (d *document) arrived(at time.Duration, before int) {
	if n := d.length(); n > before && at > 0 {
		d.arrivals = append(d.arrivals, arrival{n, at})
	}
}

// length is how many changes there are, on disk or not.
func (d *document) length() int {
	if d.machine == nil {
		return 0
	}
	return d.machine.Graph().Len()
}

// observe counts what a batch came to: acknowledgements that are in the outboxes
// now, and who is here.
func (d *document) observe() {
	if d.machine == nil {
		d.arrivals = nil
		d.report(presence.Census{Lapses: d.census.Lapses})
		return
	}
	d.report(d.machine.Census())
	if len(d.arrivals) == 0 {
		return
	}
	durable, n := d.machine.Graph().Durable(), 0
	for n < len(d.arrivals) && d.arrivals[n].upTo <= durable {
		n++
	}
	if n == 0 {
		return
	}
	now := d.now.Sub(d.srv.started) // when the commits were known of: no clock is read for it
	for _, a := range d.arrivals[:n] {
		d.srv.counters.synced.Observe((now - a.at).Seconds())
	}
	d.arrivals = d.arrivals[:copy(d.arrivals, d.arrivals[n:])]
}

// report moves the server's count of people by what is new in this document.
func (d *document) report(is presence.Census) {
	was, c := d.census, &d.srv.counters
	if is == was {
		return
	}
	c.online.Add(int64(is.Online - was.Online))
	c.reconnecting.Add(int64(is.Reconnecting - was.Reconnecting))
	c.ready.Add(int64(is.Ready - was.Ready))
	c.lapses.Add(is.Lapses - was.Lapses)
	d.census = is
}

// uptime is a clock that is cheaper to read than time.Now.
func (s *Server) uptime() time.Duration { return time.Since(s.started) }

// moment is the uptime in ns, and never 0. It goes on when the clock is set.
func (s *Server) moment() int64 { return int64(s.uptime()) + 1 }
