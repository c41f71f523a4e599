package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		srv.failWith(errors.New("nobody there"))
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		time.Sleep(2 * time.Minute)
		dials := srv.dialled()
		if len(dials) < 15 {
			t.Fatalf("%d tries in two minutes", len(dials))
		}
		ceiling := firstRetry
		for i := 1; i < len(dials); i++ {
			if gap := dials[i].Sub(dials[i-1]); gap < ceiling/2 || gap > ceiling {
				t.Errorf("try %d came after %v, want %v to %v", i, gap, ceiling/2, ceiling)
			}
			ceiling = min(2*ceiling, lastRetry)
		}
		s := c.Status()
		if s.State != Reconnecting || s.Tries != len(dials) || s.NextTry.IsZero() || s.Err == nil {
			t.Errorf("status: %+v", s)
		}
		closeNow(t, c)
	})
}

func TestReconnectAtOnceWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		srv.failWith(errors.New("nobody there"))
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		time.Sleep(time.Minute)
		synctest.Wait()
		before := len(srv.dialled())
		srv.failWith(nil)
		c.Reconnect()
		synctest.Wait()
		if n := len(srv.dialled()); n != before+1 {
			t.Errorf("%d tries more when asked", n-before)
		}
		srv.accept()
		synctest.Wait()
		if s := c.Status(); s.State != Online {
			t.Errorf("status: %+v", s)
		}
		closeNow(t, c)
	})
}

func TestCloseCodes(t *testing.T) {
	for code, stops := range map[websocket.StatusCode]bool{
		1000: false, 1001: false, 1006: false, 1013: false, 4399: false, 4400: true, 4409: false, 4499: true, 4500: false, 4529: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFakeServer(t)
			c := open(t, Options{Server: "ws://x", Dial: srv.dial})
			conn := srv.accept()
			conn.nextSync()
			conn.close(code, "because")
			synctest.Wait()
			s := c.Status()
			var refused *RefusedError
			if got := errors.As(s.Err, &refused); got != stops || (s.State == Offline) != stops {
				t.Errorf("code %d: %+v", code, s)
			}
			if stops && (refused.Code != int(code) || refused.Reason != "because") {
				t.Errorf("code %d: %v", code, refused)
			}
			time.Sleep(firstRetry)
			synctest.Wait()
			if tries := len(srv.dialled()); (tries == 1) != stops {
				t.Errorf("code %d: %d tries", code, tries)
			}
			c.Reconnect() // works after a refusal too
			if again := srv.accept(); (again.peer != conn.peer) != (code == 4409) {
				t.Errorf("code %d: %s joins, and then %s", code, conn.peer, again.peer)
			}
			closeNow(t, c)
		})
	}
}

func TestADeadServerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		srv.deaf = true
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		srv.accept()
		time.Sleep(2*pingEvery + firstRetry)
		synctest.Wait()
		if n := len(srv.dialled()); n != 2 {
			t.Errorf("%d tries", n)
		}
		closeNow(t, c)
	})
}

// What a server that is slow with its disk has not acknowledged is not saved,
// whatever was sent.
func TestSyncedIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		opened := time.Now()
		conn := srv.accept()
		conn.nextSync()
		conn.answer()
		conn.nextSync() // brings the genesis
		conn.answer()
		synctest.Wait()
		if s := c.Synced(); !s.Saved || !s.Current || !s.Since.Equal(opened) {
			t.Errorf("at first: %+v", s)
		}
		time.Sleep(time.Minute)
		picked := time.Now()
		put(t, c, "a")
		if n := conn.nextSync(); n != 1 {
			t.Fatalf("%d changes", n)
		}
		synctest.Wait()
		if s := c.Synced(); s.Saved || s.Pending != 1 || !s.Since.Equal(picked) {
			t.Errorf("not acknowledged: %+v", s)
		}
		time.Sleep(time.Minute)
		conn.answer()
		synctest.Wait()
		if s := c.Synced(); !s.Saved || s.Pending != 0 || !s.Since.Equal(time.Now()) {
			t.Errorf("acknowledged: %+v", s)
		}
		closeNow(t, c)
	})
}

// A server that comes back without what it had is believed at its first word.
func TestSyncedForgetsWhatTheServerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		p := &picky{fakeConn: srv.accept()}
		put(t, c, "a")
		p.settle()
		if s := c.Synced(); !s.Saved {
			t.Fatalf("at first: %+v", s)
		}
		p.close(1001, "restarting")
		again := &picky{fakeConn: srv.accept()}
		again.nextSync()
		again.answer()
		synctest.Wait()
		if s := c.Synced(); s.Saved || s.Pending != 1 {
			t.Errorf("the server has said that it has nothing: %+v", s)
		}
		again.settle()
		if s := c.Synced(); !s.Saved || again.graph.Len() != 2 {
			t.Errorf("at last: %+v, and the server has %d changes", s, again.graph.Len())
		}
		closeNow(t, c)
	})
}

func TestQuickChangesTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		c := open(t, Options{Server: "ws://x", Dial: srv.dial})
		conn := srv.accept()
		conn.nextSync()
		conn.answer()
		conn.nextSync()
		conn.answer()
		synctest.Wait()
		for _, key := range []string{"a", "b", "c", "d"} {
			put(t, c, key)
		}
		if n := conn.nextSync(); n != 4 {
			t.Errorf("the first frame brings %d changes", n)
		}
		closeNow(t, c)
	})
}
