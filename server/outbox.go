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
	maxDroppableBytes = 256 << 10
	// maxReplies bounds frames that answer a client's own and cannot be made
	// later: a client that asks on and on without reading is cut off.
	maxReplies = 8192
)

// outbox is what a connection is going to send. Documents put in, the
// connection's writer takes out: a goroutine that is there while there is
// something to take, so that a silent connection costs none.
type outbox struct {
	write func()        // the writer
	done  chan struct{} // closed by the writer that has sent the end

	mu        sync.Mutex
	writing   bool // there is a writer, or there was the last one
	frames    []outFrame
	bytes     int
	droppable int
	dropBytes int // of the droppable ones
	dropped   int
	waiting   []*document // have something for this connection once there is room
	robbed    []*document // of frames that were dropped; they are told when there is room
	ended     bool
	end       session.Close
}

type outFrame struct {
	data []byte
	kind frameKind
	from *document // nil: none that would have to know that it was dropped
}

// newOutbox returns an outbox whose writer is write. It takes until take says that
// there is nothing more, and closes done when it has sent the end, or cannot.
func newOutbox(write func()) outbox {
	return outbox{write: write, done: make(chan struct{})}
}

// reserve reports whether there is room for a sync frame. If there is not, d is
// told when there is.
func (o *outbox) reserve(d *document) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes < outboxBytes && len(o.frames) < outboxFrames {
		return true
	}
	o.wait(d)
	return false
}

// wait is called with the lock held.
func (o *outbox) wait(d *document) {
	if !slices.Contains(o.waiting, d) {
		o.waiting = append(o.waiting, d)
	}
}

// wasRobbed reports, once, whether frames of d's were dropped.
func (o *outbox) wasRobbed(d *document) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := len(o.robbed)
	o.robbed = slices.DeleteFunc(o.robbed, func(r *document) bool { return r == d })
	return len(o.robbed) < before
}

// put adds a frame and reports whether the connection is keeping up. Ephemeral
// frames may be dropped.
func (o *outbox) put(data []byte, kind frameKind, from *document) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return true
	}
	if len(o.frames) >= maxReplies {
		return false
	}
	o.frames = append(o.frames, outFrame{data, kind, from})
	o.bytes += len(data)
	if kind == frameEphemeral {
		o.droppable++
		o.dropBytes += len(data)
		for o.droppable > 1 && (o.droppable > maxDroppable || o.dropBytes > maxDroppableBytes) {
			o.dropOldest()
		}
	}
	o.start()
	return true
}

func (o *outbox) dropOldest() {
	i := slices.IndexFunc(o.frames, func(f outFrame) bool { return f.kind == frameEphemeral })
	if from := o.frames[i].from; from != nil {
		if !slices.Contains(o.robbed, from) {
			o.robbed = append(o.robbed, from)
		}
		o.wait(from)
	}
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
	o.start()
	return true
}

// fail drops what waits, and all that comes: nothing can be sent any more.
func (o *outbox) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.frames, o.waiting, o.robbed = nil, nil, nil
}

// start is called with the lock held.
func (o *outbox) start() {
	if !o.writing {
		o.writing = true
		go o.write()
	}
}

// keptFrames is how long a list of frames may be that a silent connection keeps.
const keptFrames = 8

// take moves all frames into spare, which it returns, with the documents that
// now have room and, when nothing follows these frames, how to end. With more
// false there was nothing: the writer is done until it is started again.
func (o *outbox) take(spare []outFrame) (frames []outFrame, waiting []*document, end *session.Close, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 && len(o.waiting) == 0 && !o.ended {
		o.writing = false
		if cap(o.frames) > keptFrames {
			o.frames = nil
		}
		return nil, nil, nil, false
	}
	frames, o.frames = o.frames, spare[:0]
	o.bytes, o.droppable, o.dropBytes = 0, 0, 0
	waiting, o.waiting = o.waiting, nil
	if o.ended {
		e := o.end
		end = &e
	}
	return frames, waiting, end, true
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
