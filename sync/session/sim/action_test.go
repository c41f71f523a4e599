package sim

import "fmt"

// action is one thing that happens. It holds all chance that there is in it, so
// that it does much the same in a list from which others were taken out.
type action struct {
	kind kind
	who  uint8  // a client, or a topic
	luck uint32 // what the dice are seeded with
}

func (a action) String() string { return fmt.Sprintf("%s/%d/%d", kinds[a.kind].name, a.who, a.luck) }

// kind is what an action does.
type kind uint8

const (
	// People, and their clients.
	pick kind = iota
	withdraw
	editFields
	forge
	confirm
	takeBack
	look
	chat
	away
	write
	hurry
	connect
	goodbye
	reload

	// The network.
	carryUp
	carryDown
	cut
	deaden
	notice

	// The server.
	step
	writeOut
	beat
	measure
	rest
	sweep
	snapshot
	bar
	expel
	host
	restart
	crash

	// The disk.
	begin
	commit
	failCommit
	loseAnswer
	runFull
	makeRoom

	// Time.
	wait
	flow
	meet

	numKinds
)

// kinds says of each kind how often it happens, and whether it is a fault: those
// are on in some runs only.
var kinds = [numKinds]struct {
	name   string
	weight int
	fault  bool
	do     func(w *world, a action)
}{
	pick:       {"pick", 12, false, byReplica((*replica).pick)},
	withdraw:   {"withdraw", 2, false, byReplica((*replica).withdraw)},
	editFields: {"edit-fields", 2, false, byReplica((*replica).editFields)},
	forge:      {"forge", 2, true, byReplica((*replica).forge)},
	confirm:    {"confirm", 20, false, byReplica((*replica).confirm)},
	takeBack:   {"take-back", 2, false, byReplica((*replica).takeBack)},
	look:       {"look", 3, false, byReplica((*replica).look)},
	chat:       {"chat", 2, false, byReplica((*replica).chat)},
	away:       {"away", 1, false, byReplica((*replica).leave)},
	write:      {"write", 4, false, byReplica((*replica).write)},
	hurry:      {"hurry", 2, true, byReplica((*replica).hurry)},
	connect:    {"connect", 12, false, byClient((*client).connect)},
	goodbye:    {"goodbye", 1, false, byClient((*client).goodbye)},
	reload:     {"reload", 1, true, byClient((*client).reload)},

	carryUp:   {"carry-up", 60, false, byLink((*link).carryUp)},
	carryDown: {"carry-down", 60, false, byLink((*link).carryDown)},
	cut:       {"cut", 3, true, byLink((*link).cut)},
	deaden:    {"deaden", 2, true, byLink((*link).deaden)},
	notice:    {"notice", 3, false, byLink((*link).notice)},

	step:     {"step", 60, false, (*world).stepDocument},
	writeOut: {"write-out", 40, false, byLink((*link).writeOut)},
	beat:     {"beat", 4, false, func(w *world, _ action) { w.server.beat() }},
	measure:  {"measure", 2, false, byLink((*link).measure)},
	rest:     {"rest", 4, false, (*world).restDocument},
	sweep:    {"sweep", 4, false, func(w *world, _ action) { w.server.sweep() }},
	snapshot: {"snapshot", 2, false, (*world).snapshotDocument},
	bar:      {"bar", 1, true, byLink((*link).bar)},
	expel:    {"expel", 1, true, byLink((*link).expel)},
	host:     {"host", 4, false, (*world).hostWrites},
	restart:  {"restart", 1, true, func(w *world, _ action) { w.restart() }},
	crash:    {"crash", 1, true, func(w *world, _ action) { w.crash() }},

	begin:      {"begin", 30, false, func(w *world, _ action) { w.disk.begin(1 + w.dice.IntN(4)) }},
	commit:     {"commit", 40, false, func(w *world, _ action) { w.disk.finish(done) }},
	failCommit: {"fail-commit", 1, true, func(w *world, _ action) { w.disk.finish(failed) }},
	loseAnswer: {"lose-answer", 1, true, func(w *world, _ action) { w.disk.finish(failedButStored) }},
	runFull:    {"run-full", 2, true, func(w *world, _ action) { w.disk.full = true }},
	makeRoom:   {"make-room", 3, false, func(w *world, _ action) { w.disk.full = false }},

	wait: {"wait", 10, false, (*world).wait},
	flow: {"flow", 2, false, (*world).flow},
	meet: {"meet", 3, false, (*world).meet},
}

func byClient(do func(*client)) func(*world, action) {
	return func(w *world, a action) { do(w.clients[int(a.who)%len(w.clients)]) }
}

// byReplica acts on the copy that a client has of one of the documents.
func byReplica(do func(*replica)) func(*world, action) {
	return func(w *world, a action) {
		c := w.clients[int(a.who)%len(w.clients)]
		do(c.replicas[w.dice.IntN(len(c.replicas))])
	}
}

// byLink acts on one of a client's links: its own, or one that only the server
// still believes in.
func byLink(do func(*link)) func(*world, action) {
	return func(w *world, a action) {
		c := w.clients[int(a.who)%len(w.clients)]
		var links []*link
		for _, l := range w.links {
			if l.client == c {
				links = append(links, l)
			}
		}
		if len(links) > 0 {
			do(links[w.dice.IntN(len(links))])
		}
	}
}
