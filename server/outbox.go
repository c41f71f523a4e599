package server

import (
	"slices"
	"sync"

	"parley/sync/session"
)

const (
	// An outbox takes sync frames while it holds less than outboxBytes and
	// outboxFrames. One frame may exceed them by its own size.
	outboxBytes  = 256 << 10
	outboxFrames = 64
	// maxDroppable and maxDroppableBytes are how many ephemeral frames wait, and
	// how long they are together, before the oldest goes.
	maxDroppable      = 256
	maxDroppableBytes = 1 << 20
	// maxReplies bounds frames that answer a client's own and cannot be made
	// later: a client that asks on and on without reading is cut off.
	maxReplies = 8192
)

// outbox is what a connection is going to send. Documents put in, the
// connection's writer takes out.
type outbox struct {
	wake chan struct{} // has room for one: there is something to take

	mu        sync.Mutex
	frames    []outFrame
	bytes     int
	droppable int
	dropBytes int // of the droppable ones
	dropped   int
	waiting   []*document // have something for this connection once there is room
	ended     bool
	end       session.Close
}

type outFrame struct {
	data []byte
	kind frameKind
}

func newOutbox() outbox {
	return outbox{wake: make(chan struct{}, 1)}
}

// reserve reports whether there is room for a sync frame. If there is not, d is
// told when there is.
func (o *outbox) reserve(d *document) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes < outboxBytes && len(o.frames) < outboxFrames {
		return true
	}
	if !slices.Contains(o.waiting, d) {
		o.waiting = append(o.waiting, d)
	}
	return false
}

// put adds a frame and reports whether the connection is keeping up. Ephemeral
// frames may be dropped.
func (o *outbox) put(data []byte, kind frameKind) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return true
	}
	if len(o.frames) >= maxReplies {
		return false
	}
	o.frames = append(o.frames, outFrame{data, kind})
	o.bytes += len(data)
	if kind == frameEphemeral {
		o.droppable++
		o.dropBytes += len(data)
		for o.droppable > 1 && (o.droppable > maxDroppable || o.dropBytes > maxDroppableBytes) {
			o.dropOldest()
		}
	}
	o.signal()
	return true
}

func (o *outbox) dropOldest() {
	i := slices.IndexFunc(o.frames, func(f outFrame) bool { return f.kind == frameEphemeral })
	o.bytes -= len(o.frames[i].data)
	o.dropBytes -= len(o.frames[i].data)
	o.frames = slices.Delete(o.frames, i, i+1)
	o.droppable--
	o.dropped++
}

// finish makes end the last thing that the writer does. It reports false if
// another end came before.
func (o *outbox) finish(end session.Close) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	o.ended, o.end = true, end
	o.signal()
	return true
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // the writer has yet to answer the last signal
	}
}

// take moves all frames into spare, which it returns, with the documents that
// now have room and, when nothing follows these frames, how to end.
func (o *outbox) take(spare []outFrame) (frames []outFrame, waiting []*document, end *session.Close) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames, o.frames = o.frames, spare[:0]
	o.bytes, o.droppable, o.dropBytes = 0, 0, 0
	waiting, o.waiting = o.waiting, nil
	if o.ended {
		e := o.end
		end = &e
	}
	return frames, waiting, end
}

// ending is how it ends, once it is finished.
func (o *outbox) ending() session.Close {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

// drops is how many frames have been dropped.
func (o *outbox) drops() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return uint64(o.dropped)
}
