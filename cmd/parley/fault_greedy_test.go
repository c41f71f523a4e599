package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/server/servertest"
	"parley/sync/protocol"
	"parley/sync/wire"
)

// greedy is a server with one honest person, and those who take what they can.
type greedy struct {
	t   *testing.T
	ctx context.Context
	p   *process
	ear *servertest.Client   // hears what is said of the big document
	big *servertest.Document // of megabytes, that everybody wants
}

// deaf asks for the big document, and never reads.
func (g *greedy) deaf(url string) *websocket.Conn {
	g.t.Helper()
	ws, _, err := websocket.Dial(g.ctx, url+"/?user=deaf", nil)
	check(g.t, err)
	g.t.Cleanup(func() { _ = ws.CloseNow() })
	peer := wire.PeerID(fmt.Sprintf("deaf-%d", rand.Uint64()))
	ask := protocol.Message{Version: protocol.V1, Have: []protocol.Have{{}}}
	for _, m := range []wire.Message{
		&wire.Join{SenderID: peer, Versions: []string{wire.ProtocolVersion}},
		&wire.Request{SenderID: peer, TargetID: "server", DocumentID: g.big.ID, Data: ask.Append(nil)},
	} {
		check(g.t, ws.Write(g.ctx, websocket.MessageBinary, wire.Append(nil, m)))
	}
	return ws
}

// idle connects, as far as that, and says nothing.
func (g *greedy) idle(upgrade bool) {
	g.t.Helper()
	if upgrade {
		ws, _, err := websocket.Dial(g.ctx, g.p.url+"/?user=idle", nil)
		check(g.t, err)
		g.t.Cleanup(func() { _ = ws.CloseNow() })
		return
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(g.p.url, "ws://"))
	check(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
}

// grow makes the big document bigger by so many megabytes.
func (g *greedy) grow(megabytes int) {
	g.t.Helper()
	for range megabytes {
		noise := make([]byte, 1<<19)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		h, err := g.big.Set(g.ctx, "noise", hex.EncodeToString(noise))
		check(g.t, err)
		check(g.t, g.big.Acknowledged(g.ctx, h))
	}
}

// endless sends one frame of 100 MB, and returns how much of it was taken.
func (g *greedy) endless() (taken int) {
	g.t.Helper()
	const length = 100 << 20
	c, err := net.Dial("tcp", strings.TrimPrefix(g.p.url, "ws://"))
	check(g.t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET /?user=endless HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	check(g.t, err)
	header := binary.BigEndian.AppendUint64([]byte{0x82, 0x80 | 127}, length) // binary, masked, RFC 6455, 5.2
	_, err = c.Write(append(header, 0, 0, 0, 0))
	check(g.t, err)
	for part := make([]byte, 1<<16); taken < length; taken += len(part) {
		if _, err := c.Write(part); err != nil {
			break
		}
	}
	return taken
}

// flood sends ephemeral messages, megabytes of them, which are passed on to who has the
// big document open. It returns when the server has taken them.
func (g *greedy) flood(megabytes int) {
	g.t.Helper()
	c, err := servertest.Dial(g.ctx, g.p.url, "")
	check(g.t, err)
	defer c.CloseNow()
	_, err = c.Open(g.ctx, g.big.ID)
	check(g.t, err)
	const most = 256 << 10 // in one
	for n := range megabytes << 20 / most {
		check(g.t, c.Send(g.ctx, &wire.Ephemeral{
			SenderID: c.PeerID, TargetID: c.Server.SenderID, DocumentID: g.big.ID,
			Count: uint64(n + 1), SessionID: "flood", Data: make([]byte, most),
		}))
	}
	doc, err := c.Open(g.ctx, servertest.NewDocumentID())
	check(g.t, err)
	check(g.t, doc.Unavailable(g.ctx, 1))
	check(g.t, g.ear.Wait(g.ctx, "the flood", func() bool { return len(g.ear.EphemeralLocked()) > 0 }))
}

// TestFaultGreedy has clients that never read, or slowly; that send 100 MB; and
// connections on which nobody ever joins. The server's memory is bounded, and somebody
// honest is served all the time.
func TestFaultGreedy(t *testing.T) {
	// A connection that does not read holds a frame of what it asked for, 2 MiB at most,
	// and twice 256 KiB of ephemeral messages; what a flood of those leaves behind comes
	// on top until it is collected, and then the race detector.
	const maxEach, maxRest = 25 << 20, 250 << 20
	const maxWait = 20 * time.Second
	ctx := within(t, 3*time.Minute)
	g := &greedy{t: t, ctx: ctx, p: serve(t, t.TempDir())}
	openDeal(t, g.p.url)
	c, err := servertest.Dial(ctx, g.p.url, "")
	check(t, err)
	defer c.CloseNow()
	g.ear = c
	g.big, err = c.Open(ctx, servertest.NewDocumentID())
	check(t, err)
	g.grow(longer(2, 8))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	slow := servertest.NewProxy(l, strings.TrimPrefix(g.p.url, "ws://"))
	defer slow.Close()
	slow.Throttle(20_000)

	honest := goIn(t, g.p.url, "deal", "alice")
	stop := busy(t, honest)
	unread := 0
	for n := range longer(24, 30) {
		g.idle(n%2 == 0)
		if n%2 == 0 {
			g.deaf(g.p.url)
			unread++
		}
		if n%6 == 0 {
			unread++
			c, err := servertest.Dial(ctx, slow.URL(), "")
			check(t, err)
			t.Cleanup(c.CloseNow)
			_, err = c.Open(ctx, g.big.ID)
			check(t, err)
		}
	}
	for range longer(1, 8) {
		g.grow(1)
		if taken := g.endless(); taken >= 50<<20 {
			t.Errorf("%d MB of a frame were taken", taken>>20)
		}
		g.flood(longer(10, 100))
	}
	stop()
	peak, alice := g.p.peakMemory(), honest[0]
	t.Logf("the server held up to %d MB; alice made %d picks, and waited for an acknowledgement for at most %v", peak>>20, len(alice.made), alice.worst.Round(time.Millisecond))
	if most := maxRest + unread*maxEach; peak > most {
		t.Errorf("for %d who do not read that is more than %d MB", unread, most>>20)
	}
	if alice.worst > maxWait || alice.acked < 10 || alice.Status().Tries > 0 {
		t.Errorf("alice was not served: %d picks acknowledged, the longest wait %v, %+v", alice.acked, alice.worst, alice.Status())
	}
	converge(t, ctx, g.p.url, honest)
	check(t, g.p.end(os.Interrupt))
}
