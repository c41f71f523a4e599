package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"parley/crdt"
)

// Append appends m as one frame. It does so by hand, and allocates nothing but
// a document id's text and what dst lacks.
//
// It panics if m is no message that may be sent: an Unknown, or one whose Data
// is empty, at which a client would throw. Decode returns no such Data.
func Append(dst []byte, m Message) []byte {
	w := writer{dst}
	switch m := m.(type) {
	case *Sync:
		w.begin(TypeSync, m.SenderID, m.TargetID, 2)
		w.document(m.DocumentID)
		w.data(m.Data)
	case *Ephemeral:
		w.begin(TypeEphemeral, m.SenderID, m.TargetID, 4)
		w.document(m.DocumentID)
		w.field(fieldCount)
		w.count(m.Count)
		w.field(fieldSessionID)
		w.text(string(m.SessionID))
		w.data(m.Data)
	case *Request:
		w.begin(TypeRequest, m.SenderID, m.TargetID, 2)
		w.document(m.DocumentID)
		w.data(m.Data)
	case *DocUnavailable:
		w.docUnavailable(m)
	case *RemoteSubscriptionChange:
		w.remoteSubscriptionChange(m)
	case *RemoteHeadsChanged:
		w.remoteHeadsChanged(m)
	case *Join:
		w.join(m)
	case *Peer:
		w.begin(TypePeer, m.SenderID, m.TargetID, 2)
		w.metadata(m.Metadata)
		w.field(fieldVersion)
		w.text(m.Version)
	case *ProtocolError:
		w.protocolError(m)
	case *Leave:
		w.begin(TypeLeave, m.SenderID, "", 0)
	default:
		panic(fmt.Sprintf("wire: a %T cannot be sent", m))
	}
	return w.b
}

// writer appends CBOR that cbor-x reads: definite lengths, shortest heads.
type writer struct {
	b []byte
}

// begin writes the map's head and the fields that all types have; more fields
// must follow. An empty target is left out.
func (w *writer) begin(t Type, sender, target PeerID, more int) {
	fields := 2 + more
	if target != "" {
		fields++
	}
	w.head(majorMap, uint64(fields))
	w.field(fieldType)
	w.text(string(t))
	w.field(fieldSenderID)
	w.text(string(sender))
	if target != "" {
		w.field(fieldTargetID)
		w.text(string(target))
	}
}

func (w *writer) head(m major, n uint64) {
	top := byte(m) << 5
	switch {
	case n < 24:
		w.b = append(w.b, top|byte(n))
	case n <= math.MaxUint8:
		w.b = append(w.b, top|24, byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, top|25), uint16(n))
	case n <= math.MaxUint32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, top|26), uint32(n))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, top|27), n)
	}
}

func (w *writer) field(f field) { w.text(fieldNames[f]) }

func (w *writer) text(s string) {
	w.head(majorText, uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) float(f float64) {
	w.b = binary.BigEndian.AppendUint64(append(w.b, byte(majorSimple)<<5|27), math.Float64bits(f))
}

// count writes what cbor-x writes for a Number: it has 32 bits or is a float.
func (w *writer) count(n uint64) {
	if n > math.MaxUint32 {
		w.float(float64(n))
		return
	}
	w.head(majorUint, n)
}

func (w *writer) bool(v bool) {
	simple := byte(simpleFalse)
	if v {
		simple = simpleTrue
	}
	w.b = append(w.b, byte(majorSimple)<<5|simple)
}

func (w *writer) document(id crdt.DocumentID) {
	w.field(fieldDocumentID)
	w.text(id.String())
}

func (w *writer) data(data []byte) {
	if len(data) == 0 {
		panic("wire: a message without data cannot be sent")
	}
	w.field(fieldData)
	w.head(majorBytes, uint64(len(data)))
	w.b = append(w.b, data...)
}

func (w *writer) metadata(m Metadata) {
	w.field(fieldMetadata)
	if m.StorageID == "" {
		w.head(majorMap, 1)
	} else {
		w.head(majorMap, 2)
		w.text(nameStorageID)
		w.text(string(m.StorageID))
	}
	w.text(nameIsEphemeral)
	w.bool(m.IsEphemeral)
}

func (w *writer) docUnavailable(m *DocUnavailable) {
	w.begin(TypeDocUnavailable, m.SenderID, m.TargetID, 1)
	if m.DocumentText == "" {
		w.document(m.DocumentID)
		return
	}
	w.field(fieldDocumentID)
	w.text(m.DocumentText)
}

func (w *writer) join(m *Join) {
	w.begin(TypeJoin, m.SenderID, "", 2)
	w.metadata(m.Metadata)
	w.field(fieldVersions)
	w.head(majorArray, uint64(len(m.Versions)))
	for _, v := range m.Versions {
		w.text(v)
	}
}

func (w *writer) protocolError(m *ProtocolError) {
	w.begin(TypeError, m.SenderID, m.TargetID, 1)
	w.field(fieldMessage)
	w.text(m.Message)
}

func (w *writer) remoteSubscriptionChange(m *RemoteSubscriptionChange) {
	more := 0
	lists := []struct {
		field field
		ids   []StorageID
	}{{fieldAdd, m.Add}, {fieldRemove, m.Remove}}
	for _, l := range lists {
		if len(l.ids) > 0 {
			more++
		}
	}
	w.begin(TypeRemoteSubscriptionChange, m.SenderID, m.TargetID, more)
	for _, l := range lists {
		if len(l.ids) == 0 {
			continue
		}
		w.field(l.field)
		w.head(majorArray, uint64(len(l.ids)))
		for _, id := range l.ids {
			w.text(string(id))
		}
	}
}

func (w *writer) remoteHeadsChanged(m *RemoteHeadsChanged) {
	w.begin(TypeRemoteHeadsChanged, m.SenderID, m.TargetID, 2)
	w.document(m.DocumentID)
	w.field(fieldNewHeads)
	w.head(majorMap, uint64(len(m.NewHeads)))
	for _, h := range m.NewHeads {
		w.text(string(h.StorageID))
		w.head(majorMap, 2)
		w.text(nameHeads)
		w.head(majorArray, uint64(len(h.Heads)))
		for _, head := range h.Heads {
			text := appendHead58(nil, head)
			w.head(majorText, uint64(len(text)))
			w.b = append(w.b, text...)
		}
		w.text(nameTimestamp)
		w.float(h.Timestamp)
	}
}
