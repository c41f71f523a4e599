package sim

import (
	"time"

	"parley/sync/session"
	"parley/sync/wire"
)

// packet is what travels in one piece: a frame, or what a WebSocket says besides.
type packet struct {
	data       []byte       // of a frame
	message    wire.Message // what it is, on the way down
	ping, pong bool
	close      *session.Close
}

// overhead is how long a packet is at least, in bytes.
const overhead = 4

func (p *packet) size() int { return overhead + len(p.data) }

// pipe is one direction of a link. What is in it arrives byte by byte, in order; a
// packet whose last byte has not come has not come.
type pipe struct {
	packets []packet
	bytes   int // of all packets
	begun   int // bytes of the first that have arrived
	dead    bool
}

func (p *pipe) push(packets ...packet) {
	for _, packet := range packets {
		p.packets = append(p.packets, packet)
		p.bytes += packet.size()
	}
}

// move brings n bytes closer, and returns the packets of which that was the last.
func (p *pipe) move(n int) (arrived []packet, moved bool) {
	if p.dead || len(p.packets) == 0 {
		return nil, false
	}
	p.begun += n
	for len(p.packets) > 0 && p.begun >= p.packets[0].size() {
		size := p.packets[0].size()
		arrived = append(arrived, p.packets[0])
		p.packets = p.packets[1:]
		p.begun, p.bytes = p.begun-size, p.bytes-size
	}
	if len(p.packets) == 0 {
		p.begun = 0
	}
	return arrived, true
}

// link is a client's connection, as the network has it. Each side believes in it
// until it has learnt of its end.
type link struct {
	w      *world
	client *client
	conn   *conn
	up     pipe
	down   pipe
}

// believed reports whether the client takes the link for its connection.
func (l *link) believed() bool { return l.client.link == l }

// piece is how many bytes go at once.
func (l *link) piece() int {
	if l.client.slow {
		return 1 + l.w.dice.IntN(64)
	}
	return 1 + l.w.dice.IntN(4096)
}

func (l *link) carryUp() { l.moveUp(l.piece()) }

func (l *link) moveUp(n int) bool {
	arrived, moved := l.up.move(n)
	if moved && !l.conn.gone {
		l.conn.moved++
	}
	for _, p := range arrived {
		switch {
		case l.conn.gone:
		case p.pong:
			l.conn.ponged = true
		default:
			l.conn.receive(p.data)
		}
	}
	return moved
}

func (l *link) carryDown() {
	l.moveDown(l.piece())
	l.conn.write()
}

func (l *link) moveDown(n int) bool {
	arrived, moved := l.down.move(n)
	if moved && !l.conn.gone {
		l.conn.moved++
	}
	for _, p := range arrived {
		if !l.believed() {
			break
		}
		switch {
		case p.ping:
			l.up.push(packet{pong: true})
		case p.close != nil:
			l.w.trace.say("%s hears that its connection ends: %d %s", l.client, p.close.Code, p.close.Reason)
			l.client.lose()
			l.conn.leave()
		default:
			l.client.receive(p.message)
		}
	}
	return moved
}

// cut breaks the link at whatever byte it is at. Each side notices, or does not.
func (l *link) cut() {
	l.up.dead, l.down.dead = true, true
	if l.w.dice.IntN(2) == 0 && l.believed() {
		l.client.lose()
	}
	if l.w.dice.IntN(2) == 0 {
		l.conn.leave()
	}
}

// deaden lets nothing more through in one direction.
func (l *link) deaden() {
	if l.w.dice.IntN(2) == 0 {
		l.up.dead = true
		return
	}
	l.down.dead = true
}

// notice tells a client that its link is of no use any more, as a timeout does.
func (l *link) notice() {
	if l.believed() && (l.up.dead || l.down.dead || l.conn.gone) {
		l.client.lose()
	}
}

func (l *link) writeOut() { l.conn.write() }

func (l *link) bar() {
	l.conn.bar(session.Close{Code: session.CloseExpired, Reason: "the token has expired"}, false)
}

func (l *link) expel() {
	l.conn.bar(session.Close{Code: session.CloseRevoked, Reason: "the token was revoked"}, true)
}

func (l *link) measure() {
	l.conn.measured(time.Duration(1+l.w.dice.IntN(300)) * time.Millisecond)
}
