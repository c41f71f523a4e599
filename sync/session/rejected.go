package session

import (
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

// tellRefusals names what was refused in this step to who sent it.
func (d *Document) tellRefusals(out []Output) []Output {
	for _, p := range d.order {
		for len(p.toTell) > 0 {
			first := p.toTell[0]
			n := 0
			for n < len(p.toTell) && n < maxNamed && p.toTell[n].Code == first.Code {
				n++
			}
			out = append(out, Send{Conn: p.Conn, Frame: d.rejection(p, first, p.toTell[:n])})
			p.toTell = slices.Delete(p.toTell, 0, n)
		}
	}
	return out
}

// rejection is the frame that names refusals with one code. In a plain document
// it is an error frame, which automerge-repo's clients log: their applications
// expect no messages but their own.
func (d *Document) rejection(p *peer, first *crdt.Refusal, all []*crdt.Refusal) []byte {
	if d.matter.kind != matterTransaction {
		return wire.Append(nil, &wire.ProtocolError{
			SenderID: d.cfg.Self, TargetID: p.ID,
			Message: "change " + first.Change.String() + " was refused: " + first.Reason,
		})
	}
	m := rejected{T: "rejected", Code: string(first.Code), Message: first.Reason}
	for _, r := range all {
		m.Changes = append(m.Changes, r.Change.String())
	}
	return d.message(p, m)
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
