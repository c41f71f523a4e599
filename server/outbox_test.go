package server

import (
	"slices"
	"testing"
)

// A document whose frames are dropped because a client is slow hears of it once,
// when there is room again; one whose frames were sent does not.
func TestWhoseFramesAreDropped(t *testing.T) {
	o := newOutbox(func() {})
	chatty, calm := &document{}, &document{}
	o.put([]byte{1}, frameSync, calm)
	for range maxDroppable + 10 {
		o.put([]byte{2}, frameEphemeral, chatty)
	}
	_, waiting, _, _ := o.take(nil)
	if !slices.Equal(waiting, []*document{chatty}) || o.drops() != 10 {
		t.Errorf("%d documents wait after %d drops", len(waiting), o.drops())
	}
	if o.wasRobbed(calm) || !o.wasRobbed(chatty) || o.wasRobbed(chatty) {
		t.Error("one is told that frames were dropped, and not the other, or twice")
	}
}
