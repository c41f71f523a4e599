package session

import (
	"fmt"
	"slices"

	"parley/crdt"
	"parley/sync/presence"
	"parley/sync/wire"
)

// maxNamed is how many changes one rejected message names.
const maxNamed = 1000

// tellRefusals names what was refused in this step to who sent it, by code: a
// client's whole history can hang on one change.
func (d *Document) tellRefusals(out []Output) []Output {
	if d.sealing != nil {
		return d.keepRefusals(out)
	}
	for _, p := range d.order {
		refusals := p.toTell
		p.toTell = nil
		for len(refusals) > 0 {
			var same, others []*crdt.Refusal
			for _, r := range refusals {
				if r.Code == refusals[0].Code {
					same = append(same, r)
				} else {
					others = append(others, r)
				}
			}
			out = append(out, Refused{Conn: p.Conn, First: same[0], Count: len(same)})
			out = d.tell(p, same, out)
			refusals = others
		}
	}
	return out
}

// tell names refusals with one code. In a plain document that is an error frame,
// which automerge-repo's clients log: their applications expect no messages but
// their own.
func (d *Document) tell(p *peer, same []*crdt.Refusal, out []Output) []Output {
	if d.matter.kind != matterTransaction {
		text := "change " + same[0].Change.String() + " was refused: " + same[0].Reason
		if n := len(same) - 1; n > 0 {
			text += fmt.Sprintf("; so were %d others", n)
		}
		return append(out, Send{Conn: p.Conn, Frame: wire.Append(nil, &wire.ProtocolError{
			SenderID: d.cfg.Self, TargetID: p.ID, Message: text,
		})})
	}
	for batch := range slices.Chunk(same, maxNamed) {
		m := presence.Rejected{Code: batch[0].Code, Message: batch[0].Reason}
		for _, r := range batch {
			m.Changes = append(m.Changes, r.Change)
		}
		out = append(out, Send{Conn: p.Conn, Frame: d.message(p, m.Encode())})
	}
	return out
}

// maxKept is how many refusals to one peer may wait for a resolution to be on
// disk.
const maxKept = 4096

// keepRefusals keeps them while a resolution is on its way to the disk: they may
// be because of it, and would tell of it.
func (d *Document) keepRefusals(out []Output) []Output {
	for _, p := range d.order {
		if len(p.toTell) > maxKept {
			p.toTell = nil
			out = append(out, d.disconnect(p, CloseOverloaded, "too many changes wait for the disk: please come back later"))
		}
	}
	return out
}
