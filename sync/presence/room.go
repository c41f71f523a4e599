package presence

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"parley/crdt"
	"parley/crdt/transaction"
)

// Subject is the document that a room is about, as it is on disk.
type Subject interface {
	// Heads are sorted. There are some: a document without changes has no room.
	Heads() []crdt.Hash
	// Settled reports whether nothing was accepted that is not on disk.
	Settled() bool
	// Past reports whether all these heads are on disk: if the document has others
	// now, it will not have these again.
	Past(heads []crdt.Hash) bool
	// Known reports whether Contested and Missing are at hand. If not, finding them
	// out takes as long as the history is.
	Known() bool
	Contested() []string // fields with several live picks, sorted
	Missing() []string   // required fields without one, sorted
}

// Config is what the rooms of a server have in common.
type Config struct {
	// Grace is how long a user who has lost the last connection may take to come
	// back and have never left (default 8 s).
	Grace time.Duration
	// Node is this process among others that share the store. Zero: it has it alone.
	Node Node
}

// DefaultGrace is the grace of a Config that says none.
const DefaultGrace = 8 * time.Second

// Room is the participants of one transaction and their readiness. It belongs
// to one goroutine.
type Room struct {
	grace    time.Duration
	node     Node // zero: there are no others
	subject  Subject
	settings Settings
	setting  int // how many others are on their way to the disk
	stalled  bool
	draining bool

	conns map[Conn]*connection
	users map[string]*participant
	ticks uint64 // counts what happens, for an order

	now       time.Time         // of the step that is made
	clock     uint64            // of the last stamp, or a later one that was heard of
	nodes     []*elsewhere      // by node
	traces    map[string]*trace // by user; empty without other nodes
	beaten    []*connection     // the same clients are connected elsewhere, it seems
	publisher publisher

	resolutions int         // how many there are
	resolution  *Resolution // the newest, on disk
	sealing     *Resolution // asked for, and not known to be on disk
	learning    bool

	teller teller
	waits  time.Time // what else there is to wake for, as of the last step
	census Census    // as of the last step
}

// Census is how many users are here through this node, and how often somebody's
// readiness lapsed since the room was made.
type Census struct {
	Online, Reconnecting int
	Ready                int // of both
	Lapses               uint64
}

// connection is one client that has the transaction open.
type connection struct {
	conn   Conn
	peer   string
	person Person
	away   bool // it took leave, and listens only
	trip   time.Duration
	focus  string
	moved  Stamp // when it last said where the user is
	came   Stamp // when it became the user's

	wants bool      // the roster, whatever others are told
	told  time.Time // when it last got what it wanted

	hopes     []crdt.Hash // a ready for what may be on its way to the disk
	hopesTill time.Time
}

// participant is one user who is here.
type participant struct {
	user  string
	name  string
	role  transaction.Role
	since time.Time
	conns []*connection      // in the order of their arrival
	lost  map[string]absence // by peer, those that lost their connection
	ready []crdt.Hash        // what the user is ready for; nil: nothing
	lapse *Cause
	trip  time.Duration // as everybody was last told

	named   Stamp         // when the connection came that the name is of
	others  []Connected   // on other nodes
	waited  []awaited     // lost there
	outside time.Duration // round trip as other nodes were last told
}

// absence is a client that may come back.
type absence struct {
	until time.Time
	role  transaction.Role // that it had
	came  Stamp
	// dead: the same client came later on another node, or ended there. It is told on
	// for as long as it would be waited for: who hears of this node first, and of
	// that one later, must not take its user for gone.
	dead bool
}

// New returns a room without anybody in it. resolutions are the transaction's,
// in the order in which they were made.
func New(cfg Config, subject Subject, settings Settings, resolutions []Resolution) *Room {
	r := &Room{
		grace: cmp.Or(cfg.Grace, DefaultGrace), node: cfg.Node, subject: subject, settings: settings,
		conns: make(map[Conn]*connection), users: make(map[string]*participant), traces: make(map[string]*trace),
		resolutions: len(resolutions),
	}
	if len(resolutions) > 0 {
		r.resolution = &resolutions[len(resolutions)-1]
	}
	return r
}

// Step applies one input and appends what is to be done to out.
func (r *Room) Step(now time.Time, in Input, out []Output) []Output {
	out = r.step(now, in, out)
	r.waits = r.earliest()
	r.count()
	return out
}

func (r *Room) step(now time.Time, in Input, out []Output) []Output {
	r.ticks++
	r.now = now
	switch in := in.(type) {
	case Arrived:
		r.arrive(now, in)
	case Synced:
		if c, ok := r.conns[in.Conn]; ok {
			c.wants, c.told = true, time.Time{}
		}
	case Parted:
		r.part(now, in)
	case Heard:
		out = r.hear(now, in, out)
	case Measured:
		r.measure(now, in)
	case Advanced:
		out = r.lapse(in.Because, out)
		r.teller.changed(now)
		out = r.fulfil(now, out)
	case Setting:
		r.setting++
	case Set:
		r.settings, r.setting = in.Settings, max(0, r.setting-1)
		for _, p := range r.users {
			r.identify(p)
		}
		r.teller.changed(now)
	case Stored:
		out = r.resolved(now, in.Checkpoint, out)
	case Agreed:
		out = r.agreed(now, &in.Resolution, out)
	case Overtaken:
		r.sealing, r.setting = nil, 0
		out = r.fulfil(now, out)
	case Learning:
		r.learning = true
	case Learned:
		r.learning = false
	case Draining:
		r.draining = true
	case Stalled:
		if r.stalled != in.Stalled {
			r.stalled = in.Stalled
			r.teller.changed(now)
		}
	case Ticked:
		r.expire(now)
		r.forgetOld()
		out = r.fulfil(now, out)
	case Elsewhere:
		r.hearOf(in)
	case Silent:
		r.lose(in.Node)
	case Published:
		out = r.published(in, out)
	case Forgotten:
		r.forgotten()
	}
	out = r.resolve(now, out)
	out = r.publish(out)
	if _, ticked := in.(Ticked); !ticked && !r.subject.Known() {
		return out // what else the input leads to comes first: the tick is due at once
	}
	return r.tell(now, out)
}

// Empty reports whether nobody is here, nor expected back, through this node, and
// nothing has to be remembered of those who were.
func (r *Room) Empty() bool {
	if !r.shared() {
		return len(r.users) == 0
	}
	for _, p := range r.users {
		if len(p.conns) > 0 || len(p.lost) > 0 {
			return false
		}
	}
	for _, t := range r.traces {
		if t.word != nil || len(t.ended) > 0 {
			return false
		}
	}
	return true
}

// Census returns it as of the last step.
func (r *Room) Census() Census { return r.census }

func (r *Room) count() {
	c := Census{Lapses: r.census.Lapses}
	for _, p := range r.users {
		switch {
		case len(p.conns) > 0:
			c.Online++
		case !p.isLocal() || p.isOnline(): // other nodes count them
			continue
		default:
			c.Reconnecting++
		}
		if p.ready != nil {
			c.Ready++
		}
	}
	r.census = c
}

// AnyReady reports whether somebody is ready, so that [Advanced] needs a cause.
func (r *Room) AnyReady() bool {
	for _, p := range r.users {
		if p.ready != nil {
			return true
		}
	}
	return false
}

// Sealed reports whether the document's accepted changes, whose heads are given,
// are an agreement that further changes must not undo: one that is on disk, or
// on its way there.
func (r *Room) Sealed(heads []crdt.Hash) bool {
	return r.settings.Policy == Lock && (r.resolution.Over(heads) || r.sealing.Over(heads))
}

// Sealing reports whether a resolution is on its way to the disk: it may be
// acted on and not spoken of.
func (r *Room) Sealing() bool { return r.sealing != nil }

// Wake returns when [Ticked] is due, the zero time if nothing waits.
func (r *Room) Wake() time.Time {
	if r.isHeldBack() {
		return r.waits
	}
	return earlier(r.nextBroadcast(), r.waits)
}

// earliest is when the first of those who wait has waited enough: for somebody to
// come back, for a change, or for a roster of their own.
func (r *Room) earliest() (wake time.Time) {
	for _, p := range r.users {
		for _, a := range p.lost {
			wake = earlier(wake, a.until)
		}
		for _, a := range p.waited {
			wake = earlier(wake, a.until)
		}
	}
	held := r.isHeldBack()
	for _, c := range r.conns {
		if c.hopes != nil {
			wake = earlier(wake, c.hopesTill)
		}
		if c.wants && !held {
			wake = earlier(wake, c.told.Add(tellEvery))
		}
	}
	for _, t := range r.traces {
		wake = earlier(wake, t.until)
	}
	return earlier(wake, r.nextPublish())
}

// earlier takes the zero time for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (r *Room) arrive(now time.Time, in Arrived) {
	c := &connection{conn: in.Conn, peer: in.Peer, person: in.Person, wants: true}
	r.conns[in.Conn] = c
	r.enter(now, c)
}

// enter makes a connection its user's.
func (r *Room) enter(now time.Time, c *connection) {
	user := c.person.User
	if user == "" {
		return
	}
	p := r.users[user]
	if p != nil && p.expired(now) { // nobody has ticked yet
		r.depart(p, false)
		p = nil
	}
	if p == nil {
		p = &participant{user: user, since: now, lost: make(map[string]absence)}
		r.users[user] = p
	}
	delete(p.lost, c.peer)
	// The client is back: its older connection is the dead half of a link.
	p.conns = slices.DeleteFunc(p.conns, func(older *connection) bool { return older.peer == c.peer })
	p.conns = append(p.conns, c)
	c.came = r.stamp()
	r.mustTell()
	r.identify(p)
	r.teller.changed(now)
}

// identify makes the user what the connections say: called as on the newest, and
// a party if any of them is one, also of those that may come back. Who is no
// party any more is not ready.
func (r *Room) identify(p *participant) {
	if r.shared() {
		r.identifyShared(p)
		return
	}
	p.describe()
	if !r.isParty(p.user, p.role) {
		p.ready = nil
	}
}

func (p *participant) describe() {
	p.role = ""
	for _, c := range p.conns {
		p.name, p.role = c.person.Name, stronger(p.role, c.person.Role)
	}
	for _, a := range p.lost {
		if !a.dead {
			p.role = stronger(p.role, a.role)
		}
	}
}

// stronger returns the role on which more of the agreement depends.
func stronger(a, b transaction.Role) transaction.Role {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// rank orders roles by how much of the agreement depends on them.
func rank(role transaction.Role) int {
	return slices.Index([]transaction.Role{"", transaction.Viewer, transaction.Auditor, transaction.Host, transaction.Party}, role)
}

// expired reports whether everybody who might have come back should be here.
func (p *participant) expired(now time.Time) bool {
	if p.isOnline() || slices.ContainsFunc(p.waited, func(a awaited) bool { return !a.isOver(now) }) {
		return false
	}
	for _, a := range p.lost {
		if !a.dead && now.Before(a.until) {
			return false
		}
	}
	return true
}

func (r *Room) part(now time.Time, in Parted) {
	c, ok := r.conns[in.Conn]
	if !ok {
		return
	}
	delete(r.conns, in.Conn)
	r.beaten = slices.DeleteFunc(r.beaten, func(other *connection) bool { return other == c })
	p := r.holder(c)
	if p == nil {
		return
	}
	if !in.Goodbye {
		p.await(c.peer, absence{until: now.Add(r.grace), role: c.person.Role, came: c.came})
	} else if r.shared() {
		r.end(p.user, c.peer, c.came)
	}
	r.remove(now, p, c)
	if p.isGone() {
		r.depart(p, in.Goodbye)
	}
}

// isGone reports whether nothing is left of a user.
func (p *participant) isGone() bool { return !p.isLocal() && len(p.others) == 0 && len(p.waited) == 0 }

// isLocal reports whether the user is here through this node, or waited for here.
func (p *participant) isLocal() bool {
	if len(p.conns) > 0 {
		return true
	}
	for _, a := range p.lost {
		if !a.dead {
			return true
		}
	}
	return false
}

// isOnline reports whether the user has a connection anywhere.
func (p *participant) isOnline() bool { return len(p.conns) > 0 || len(p.others) > 0 }

// depart makes a user leave, who may have said so.
func (r *Room) depart(p *participant, said bool) {
	delete(r.users, p.user)
	if r.shared() {
		r.departShared(p, said)
	}
}

// maxLost is how many clients of one user are waited for: beyond that the one
// that is due first is forgotten.
const maxLost = 16

func (p *participant) await(peer string, a absence) {
	if len(p.lost) >= maxLost {
		delete(p.lost, slices.MinFunc(slices.Sorted(maps.Keys(p.lost)), func(a, b string) int {
			return p.lost[a].until.Compare(p.lost[b].until)
		}))
	}
	p.lost[peer] = a
}

// holder returns the participant whose connection c is, nil if it is nobody's:
// without a name, away, or replaced by a newer one.
func (r *Room) holder(c *connection) *participant {
	p := r.users[c.person.User]
	if p == nil || !slices.Contains(p.conns, c) {
		return nil
	}
	return p
}

func (r *Room) remove(now time.Time, p *participant, c *connection) {
	r.mustTell()
	p.conns = slices.DeleteFunc(p.conns, func(other *connection) bool { return other == c })
	r.identify(p)
	r.teller.changed(now)
}

// expire makes those leave who have not come back in time.
func (r *Room) expire(now time.Time) {
	for _, user := range slices.Sorted(maps.Keys(r.users)) {
		p := r.users[user]
		before, role := len(p.lost), p.role
		maps.DeleteFunc(p.lost, func(_ string, a absence) bool { return !now.Before(a.until) })
		switch {
		case len(p.lost) < before:
			r.mustTell()
		case !r.expireElsewhere(user):
			continue
		}
		if r.identify(p); p.role != role {
			r.teller.changed(now)
		}
		if p.isGone() {
			r.depart(p, false)
			r.teller.changed(now)
		}
	}
}

func (r *Room) hear(now time.Time, in Heard, out []Output) []Output {
	c, ok := r.conns[in.Conn]
	if !ok {
		return out
	}
	switch m := in.Message.(type) {
	case Ready:
		r.comeBack(now, c)
		return r.ready(now, c, m.Heads, out)
	case Unready:
		c.hopes = nil
		if p := r.holder(c); p != nil {
			r.unready(p)
		}
	case Focus:
		if m.Field != "" { // who goes and then looks away has gone
			r.comeBack(now, c)
		}
		r.focus(now, c, m.Field)
	case Ping:
		return append(out, Send{To: c.conn, Data: (&Pong{N: m.N}).Encode()})
	case Leave:
		r.leave(now, c)
	case Ask:
		c.wants = true
	case Wrong:
		return append(out, Send{To: c.conn, Data: (&Rejected{Of: m.Kind, Code: CodeBadMessage, Message: m.Reason}).Encode()})
	}
	return out
}

// comeBack makes one who took leave a participant again, but not by a connection
// that its client has replaced since: what that says was said before.
func (r *Room) comeBack(now time.Time, c *connection) {
	if !c.away {
		return
	}
	if p := r.users[c.person.User]; p != nil && p.hasNewer(c) {
		return
	}
	c.away = false
	r.enter(now, c)
}

// hasNewer reports whether a client that took leave on c has connected again since.
func (p *participant) hasNewer(c *connection) bool {
	return slices.ContainsFunc(p.conns, func(newer *connection) bool { return newer.peer == c.peer }) ||
		slices.ContainsFunc(p.others, func(o Connected) bool { return o.Peer == c.peer && c.came.Before(o.Arrived) })
}

// leave takes a connection out, and its user if it was the last: whatever was
// lost before is not waited for.
func (r *Room) leave(now time.Time, c *connection) {
	p := r.holder(c)
	if p == nil {
		c.away = c.away || slices.Contains(r.beaten, c) // it is not to be brought back
		return
	}
	c.away, c.focus, c.hopes = true, "", nil
	if r.shared() {
		r.end(p.user, c.peer, c.came)
	}
	r.remove(now, p, c)
	if !p.isOnline() {
		r.endAll(p)
		r.depart(p, true)
	}
}

func (r *Room) focus(now time.Time, c *connection, field string) {
	p := r.holder(c)
	if p == nil {
		return
	}
	before := p.focus()
	c.focus, c.moved = field, r.stamp()
	r.mayWait()
	if p.focus() != before {
		r.teller.changed(now)
	}
}

// focus is where the user last went, of the connections there are.
func (p *participant) focus() (field string) {
	var last Stamp
	for _, c := range p.conns {
		if last.Before(c.moved) {
			last, field = c.moved, c.focus
		}
	}
	for _, c := range p.others {
		if last.Before(c.Focused) {
			last, field = c.Focused, c.Focus
		}
	}
	return field
}

func (r *Room) measure(now time.Time, in Measured) {
	c, ok := r.conns[in.Conn]
	if !ok {
		return
	}
	p := r.holder(c)
	if p == nil {
		c.trip = in.RoundTrip
		return
	}
	before := p.roundTrip()
	c.trip = in.RoundTrip
	if notable(p.outside, p.nearTrip()) {
		r.mayWait()
	}
	switch is := p.roundTrip(); {
	case is == before:
	case notable(p.trip, is):
		r.teller.changed(now)
	default:
		r.teller.fresh = false
	}
}

// notable reports whether a round trip time is worth telling: it is always told
// with what else there is.
func notable(told, is time.Duration) bool {
	const least = 20 * time.Millisecond
	return told == 0 || (is-told).Abs() >= max(least, told/2)
}

// roundTrip is the best of the user's connections, 0 if none is known.
func (p *participant) roundTrip() time.Duration {
	best := p.nearTrip()
	for _, c := range p.others {
		best = better(best, c.RoundTrip)
	}
	return best
}

// nearTrip is the same of the connections to this node.
func (p *participant) nearTrip() (best time.Duration) {
	for _, c := range p.conns {
		best = better(best, c.trip)
	}
	return best
}

// better returns the lesser round trip time of which one may not be known.
func better(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
