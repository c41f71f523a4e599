package session

import (
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/sync/wire"
)

// maxNamed is how many changes one rejected message names.
const maxNamed = 1000

// envelope is how Parley's own messages travel: as the CBOR value of an
// automerge-repo ephemeral message.
type envelope struct {
	Parley any `cbor:"parley"`
}

// rejected tells the sender of changes that they were refused.
type rejected struct {
	T       string   `cbor:"t"`       // "rejected"
	Changes []string `cbor:"changes"` // hashes in hexadecimal
	Code    string   `cbor:"code"`
	Message string   `cbor:"message"` // a sentence for people
}

// tellRefusals names what was refused in this step to who sent it, by code: a
// client's whole history can hang on one change.
func (d *Document) tellRefusals(out []Output) []Output {
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
		m := rejected{T: "rejected", Code: string(batch[0].Code), Message: batch[0].Reason}
		for _, r := range batch {
			m.Changes = append(m.Changes, r.Change.String())
		}
		out = append(out, Send{Conn: p.Conn, Frame: d.message(p, m)})
	}
	return out
}

// message is a frame with a message of Parley's own.
func (d *Document) message(p *peer, body any) []byte {
	data, err := cbor.Marshal(envelope{body})
	if err != nil {
		panic("session: encode a message of ours: " + err.Error())
	}
	d.count++
	return wire.Append(nil, &wire.Ephemeral{
		SenderID: d.cfg.Self, TargetID: p.ID, DocumentID: d.id,
		Count: d.count, SessionID: d.session, Data: data,
	})
}
