package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/crdt"
	"parley/server/store"
	"parley/sync/session"
)

// compareEvery is how often what is open is compared with what is stored, whatever
// was heard of other nodes: what got lost on the way is no later than that.
var compareEvery = 10 * time.Second // tests change it

const (
	// newerWithin is how long a document waits for what it lacks.
	newerWithin = 5 * time.Second
	// againAfter is when what is newer is read again that could not be, although what is
	// on its way to the disk waits for it. It doubles each time, up to maxAgain.
	againAfter = 250 * time.Millisecond
	maxAgain   = 2 * time.Second
	// comparedAtOnce is how many documents one question is about.
	comparedAtOnce = 1000
)

// nodes is what other servers of the same store do. Without others it does nothing.
type nodes struct {
	srv     *Server
	compare chan struct{} // capacity 1: something may have been missed
	revoked chan struct{} // capacity 1: there are further revocations
}

// follow begins to hear of other nodes, until ctx ends.
func (s *Server) follow(ctx context.Context) {
	if !s.store.Shared() {
		return
	}
	s.store.Follow(s.nodes)
	s.stopped.Go(func() { s.nodes.run(ctx) })
	s.stopped.Go(func() { s.neighbours.run(ctx) })
	s.stopped.Go(func() { s.publisher.run(ctx) })
}

// News implements [store.Follower]. Where the document is as far already nothing
// happens in it, so that it can rest, and leave.
func (n *nodes) News(news store.News) {
	if n.srv.draining.Load() {
		return
	}
	if d := n.srv.docs.pinIfBehind(news.Document, steps(news.Version)); d != nil {
		d.post(posted{news: &news})
	}
}

// steps counts all that made a version. Versions of a document are of one line, so
// that of two the later one has more.
func steps(v store.Version) int64 { return int64(v.Changes + v.Settings + v.Resolutions) }

// Revoked implements [store.Follower].
func (n *nodes) Revoked() { signal(n.revoked) }

// Missed implements [store.Follower].
func (n *nodes) Missed() {
	signal(n.compare)
	signal(n.revoked)
	signal(n.srv.neighbours.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run makes good what was not heard.
func (n *nodes) run(ctx context.Context) {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-n.revoked:
			err = n.srv.hearRevocations(ctx)
		case <-n.compare:
			err = n.compareOpen(ctx)
		case <-ticker.C:
			err = errors.Join(n.compareOpen(ctx), n.srv.hearRevocations(ctx))
		}
		if err != nil && ctx.Err() == nil { // the next time is soon
			n.srv.log.Warn("what other servers have stored is not known", "err", err)
		}
	}
}

// compareOpen tells every open document how far it has come on disk.
func (n *nodes) compareOpen(ctx context.Context) error {
	ids := n.srv.docs.ids()
	for len(ids) > 0 {
		part := ids[:min(len(ids), comparedAtOnce)]
		ids = ids[len(part):]
		versions, err := n.srv.store.Versions(ctx, part)
		if err != nil {
			return err
		}
		for id, v := range versions {
			n.News(store.News{Document: id, Version: v})
		}
		if err := n.comparePresence(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// hearRevocations takes over what the store has been told since it was asked last, by
// this server or another. One goroutine calls it at a time.
func (s *Server) hearRevocations(ctx context.Context) error {
	list, err := s.store.Revocations(ctx, s.revoked.heard)
	if err != nil {
		return err
	}
	s.revoked.heard += len(list)
	for _, r := range list {
		if s.revoked.add(r) {
			s.closeRevoked(r)
		}
	}
	return nil
}

// pinIfBehind returns a document that is in memory and was not known to have come so
// far, pinned, or nil.
func (r *registry) pinIfBehind(id crdt.DocumentID, steps int64) *document {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.docs[id]
	if d == nil || d.seen.Load() >= steps {
		return nil
	}
	d.pins++
	return d
}

func (r *registry) ids() []crdt.DocumentID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]crdt.DocumentID, 0, len(r.docs))
	for id := range r.docs {
		ids = append(ids, id)
	}
	return ids
}

// version is how far the document has come here, on disk.
func (d *document) version() store.Version {
	v := d.kept
	v.Changes = d.machine.Graph().Durable()
	return v
}

// hear takes what another node has stored, or how far the document has come on disk.
func (d *document) hear(n *store.News) {
	d.perform() // what it asks of the store counts
	if d.broken {
		return
	}
	have := d.version()
	switch {
	case !have.Lacks(n.Version):
	case d.inflight > 0: // some of it may be ours; it is looked at when all is answered
		d.stale = true
	case n.Changes != nil && have == (store.Version{
		Changes: n.Version.Changes - len(n.Changes), Settings: n.Version.Settings, Resolutions: n.Version.Resolutions,
	}):
		st := &store.Stored{First: have.Changes, Version: n.Version}
		for _, c := range n.Changes {
			st.Chunks, st.Users = append(st.Chunks, c.Chunk), append(st.Users, c.User)
		}
		d.learn(st)
	default:
		d.catchUp()
	}
}

const (
	// patientFor is how often other nodes may be first before this one asks them to let
	// it pass. What they commit meanwhile must be read first, so that a node where a
	// document is busier would go first for ever.
	patientFor = 2
	// yieldFor is how long a node that was asked commits nothing of the document: time
	// for the other to read what is new and to commit. It doubles with each time that
	// this was not enough, up to maxYield.
	yieldFor = 25 * time.Millisecond
	maxYield = 800 * time.Millisecond
)

// askToPass notes that other nodes were first, and asks them to wait if that happens
// again and again.
func (d *document) askToPass() {
	if !d.beaten {
		return
	}
	d.beaten = false
	if d.lost++; d.lost >= patientFor {
		d.srv.publisher.urge(d.id, d.lost-patientFor+1)
	}
}

// yield commits nothing for a moment. It was asked for that n times.
func (d *document) yield(n int) {
	if time.Since(d.yielded) < yieldFor {
		return // it was asked for that before the pause ended
	}
	d.perform()
	time.Sleep(min(yieldFor<<min(n-1, 10), maxYield))
	d.yielded, d.now = time.Now(), d.srv.opt.Now()
}

// ask counts what the store is asked for.
func (d *document) ask() int {
	d.inflight++
	d.asked++
	return d.asked
}

// waitingAsk is a request that is answered when what other nodes had stored before it
// came is known.
type waitingAsk struct {
	do    func()
	after int // what the store had been asked for then
}

// answer runs a request's question now, if nothing of ours is on its way to the disk,
// or keeps it. It returns how many pins that gives back.
func (d *document) answer(do func()) int {
	d.waiting = append(d.waiting, waitingAsk{do, d.asked})
	return d.answerWaiting()
}

// answerWaiting runs what waited long enough: until all is answered that the store was
// asked for, and it can be looked for what is newer; or until something came true that
// was asked for later, for then there was nothing newer. While the store is away nothing
// is waited for. It returns how many pins that gives back.
func (d *document) answerWaiting() (unpin int) {
	for len(d.waiting) > 0 {
		w := d.waiting[0]
		if d.srv.store.Shared() {
			d.perform() // what it asks of the store counts
			if d.inflight > 0 && d.proven <= w.after && !d.broken && d.srv.store.Status() == nil {
				break
			}
		}
		d.waiting[0] = waitingAsk{}
		d.waiting = d.waiting[1:]
		w.do()
		unpin++
	}
	return unpin
}

// refresh reads what other nodes have stored, for a request whose client may have had
// its last answer from one of them.
func (d *document) refresh() {
	if !d.srv.store.Shared() {
		return
	}
	d.perform() // what it asks of the store counts
	switch {
	case d.broken || d.srv.store.Status() != nil:
	case d.inflight > 0:
		d.stale = true
	default:
		d.catchUp()
	}
}

// catchUp reads what other nodes have stored. Nothing of this one's is on its way
// to the disk, unless it was overtaken.
func (d *document) catchUp() {
	if d.toLook {
		d.look() // before the room tries again
	}
	ctx, cancel := context.WithTimeout(context.Background(), newerWithin)
	defer cancel()
	have := d.version()
	st, err := d.srv.store.Newer(ctx, d.id, have)
	if err == nil && st.Version.Lacks(have) {
		err = &olderError{st.Version, have}
	}
	switch {
	case err == nil:
		d.again = 0
		d.learn(st)
	case !d.overtaken: // it is compared again
		d.srv.log.Debug("a document lags behind what other servers have stored", "document", d.id, "err", err)
	case mayPass(err) && !d.srv.draining.Load():
		d.lookAgain(err)
	default:
		d.drop(fmt.Errorf("read what is newer: %w", err), "the document could not be read: please come back")
	}
}

// olderError says that a database has lost what it had.
type olderError struct{ is, was store.Version }

func (e *olderError) Error() string {
	return fmt.Sprintf("the database is at %+v, where it was at %+v: was a copy put in its place that lacks the newest?", e.is, e.was)
}

// mayPass says whether what could not be read may be read later: it is not damaged, nor
// gone, so that the database is most likely away.
func mayPass(err error) bool {
	var damaged *store.DamagedError
	var older *olderError
	return !errors.As(err, &damaged) && !errors.As(err, &older)
}

// lookAgain has what is newer read in a moment: what is on its way to the disk stands
// behind it, and nothing of that is acknowledged until then.
func (d *document) lookAgain(err error) {
	if d.looking {
		return
	}
	d.srv.log.Warn("what other servers have stored cannot be read, and is tried again", "document", d.id, "err", err)
	wait := min(againAfter<<min(d.again, 10), maxAgain)
	d.again++
	d.looking = true
	time.AfterFunc(wait, func() {
		if !d.srv.draining.Load() { // everybody goes to other servers, and brings it there
			d.srv.docs.postIfOpen(d, posted{again: true})
		}
	})
}

// overtakenStill reads what is newer, if that is still to be done and nothing is asked
// of the store, which would have it done when it answers.
func (d *document) overtakenStill() {
	d.looking = false
	d.perform() // what it asks of the store counts
	if d.overtaken && d.inflight == 0 && !d.broken {
		d.catchUp()
	}
}

// learn gives the machine what is newer on disk.
func (d *document) learn(st *store.Stored) {
	news, err := d.news(st)
	if err == nil {
		news.Overtaken = d.overtaken
		d.overtaken, d.stale = false, false
		d.kept, d.came = st.Version, st.Version
		if st.Settings != nil {
			d.settings = st.Settings
		}
		d.newSettings = d.settings
		if news.Overtaken {
			d.chain = &store.Chain{}
		}
		d.out, err = d.machine.Learn(d.now, news, d.out)
	}
	if err != nil {
		d.drop(err, "the document could not be read: please come back")
		return
	}
	if news.Overtaken {
		for i := range d.arrivals { // what they brought stands behind the news now
			d.arrivals[i].upTo = min(d.arrivals[i].upTo+len(news.Changes), d.length())
		}
	}
	for i := range d.waiting { // it was looked for what is newer after they came
		d.waiting[i].after = -1
	}
	d.tellStored()
	d.considerSnapshot(false)
}

// news reads what is newer for the machine.
func (d *document) news(st *store.Stored) (*session.News, error) {
	news := &session.News{}
	for i, chunk := range st.Chunks {
		c, err := crdt.DecodeChange(chunk, d.srv.opt.Limits.Change)
		if err != nil {
			return nil, fmt.Errorf("read change %d, which another server has stored: %w: have all the same limits?", st.First+i+1, err)
		}
		news.Changes = append(news.Changes, session.StoredChange{Change: c, User: st.Users[i]})
	}
	if st.Settings != nil {
		settings, err := readSettings(st.Settings)
		if err != nil {
			return nil, err
		}
		news.Settings = &settings
	}
	var err error
	news.Resolutions, err = readResolutions(st.Resolutions)
	return news, err
}

// drop gives up what is in memory: clients come back to what is on disk.
func (d *document) drop(err error, reason string) {
	d.srv.log.Error("a document is dropped from memory", "document", d.id, "err", err)
	for _, c := range d.conns {
		c.end(session.Close{Code: session.CloseInternal, Reason: reason})
	}
	d.fail()
}
