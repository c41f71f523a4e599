package wire

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"parley/crdt"
)

// Decode reads one frame. The error, if there is one, is an *[Error]. The
// message's Data is part of frame; all else is copied.
func Decode(frame []byte, lim Limits) (Message, error) {
	r := reader{lim: lim.withDefaults()}
	if len(frame) > r.lim.Frame {
		return nil, &Error{Kind: KindLimit, Reason: fmt.Sprintf("%d bytes, at most %d are read", len(frame), r.lim.Frame)}
	}
	if err := checkFrame(frame); err != nil {
		return nil, err
	}
	m := r.read(frame)
	if r.err == nil && r.badDocument != "" {
		r.err = &Error{
			Kind: KindDocument, Reason: "documentId names no document",
			Type: m.Type(), SenderID: r.sender(), DocumentText: r.badDocument,
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

// field is a known field of a frame.
type field int

const (
	fieldUnknown field = iota
	fieldType
	fieldSenderID
	fieldTargetID
	fieldDocumentID
	fieldData
	fieldCount
	fieldSessionID
	fieldMetadata
	fieldVersions
	fieldVersion
	fieldMessage
	fieldAdd
	fieldRemove
	fieldNewHeads
	numFields
)

// fieldNames are the fields as the frames have them.
var fieldNames = [numFields]string{
	fieldType: "type", fieldSenderID: "senderId", fieldTargetID: "targetId", fieldDocumentID: "documentId",
	fieldData: "data", fieldCount: "count", fieldSessionID: "sessionId",
	fieldMetadata: "peerMetadata", fieldVersions: "supportedProtocolVersions", fieldVersion: "selectedProtocolVersion",
	fieldMessage: "message", fieldAdd: "add", fieldRemove: "remove", fieldNewHeads: "newHeads",
}

// Fields of maps within a frame.
const (
	nameStorageID   = "storageId"
	nameIsEphemeral = "isEphemeral"
	nameHeads       = "heads"
	nameTimestamp   = "timestamp"
)

const (
	maxFields   = 64      // in a map whose keys are names of fields
	maxMessage  = 4096    // bytes of an error's text
	maxSafeInt  = 1 << 53 // JavaScript's numbers are whole below this
	rawDocument = len(crdt.DocumentID{})
)

// reader takes one checked frame apart. It keeps the first thing it finds
// wrong; what it returns after that is not used.
type reader struct {
	lim         Limits
	fields      [numFields]item
	has         [numFields]bool // present, and neither undefined nor null
	err         *Error
	badDocument string
	heads       int // in newHeads so far: each costs two hashes to check
}

func (r *reader) read(frame []byte) Message {
	top, body := head(frame)
	top.body = body
	r.entries("frame", top, func(key []byte, value item) {
		if f := fieldNamed(key); f != fieldUnknown && !value.absent() {
			r.fields[f], r.has[f] = value, true
		}
	})
	if r.err != nil {
		return nil
	}
	return r.message()
}

func (r *reader) message() Message {
	name := r.boundedText(fieldNames[fieldType], r.fields[fieldType], r.lim.ID)
	switch Type(name) {
	case TypeSync:
		return &Sync{r.sender(), r.target(), r.document(), r.data()}
	case TypeEphemeral:
		return &Ephemeral{r.sender(), r.target(), r.document(), r.count(), SessionID(r.id(fieldSessionID)), r.data()}
	case TypeRequest:
		return &Request{r.sender(), r.target(), r.document(), r.data()}
	case TypeDocUnavailable:
		return &DocUnavailable{SenderID: r.sender(), TargetID: r.target(), DocumentID: r.document()}
	case TypeRemoteSubscriptionChange:
		return &RemoteSubscriptionChange{r.sender(), r.target(), r.storageIDs(fieldAdd), r.storageIDs(fieldRemove)}
	case TypeRemoteHeadsChanged:
		return &RemoteHeadsChanged{r.sender(), r.target(), r.document(), r.newHeads()}
	case TypeJoin:
		return &Join{r.sender(), r.metadata(), r.versions()}
	case TypePeer:
		return &Peer{r.sender(), r.target(), r.metadata(), r.id(fieldVersion)}
	case TypeError:
		return &ProtocolError{PeerID(r.optionalID(fieldSenderID)), r.target(), r.errorText()}
	case TypeLeave:
		return &Leave{r.sender()}
	}
	return r.unknown()
}

func (r *reader) unknown() Message {
	u := &Unknown{Name: Type(r.id(fieldType))}
	// Its fields may mean anything: an odd senderId is no reason to refuse it.
	if sender, ok := r.fields[fieldSenderID].text(); ok && len(sender) <= r.lim.ID {
		u.SenderID = PeerID(sender)
	}
	return u
}

// fieldNamed is a switch and no search in fieldNames: it is called for every
// field of every frame.
func fieldNamed(key []byte) field {
	switch string(key) {
	case "type":
		return fieldType
	case "senderId":
		return fieldSenderID
	case "targetId":
		return fieldTargetID
	case "documentId":
		return fieldDocumentID
	case "data":
		return fieldData
	case "count":
		return fieldCount
	case "sessionId":
		return fieldSessionID
	case "peerMetadata":
		return fieldMetadata
	case "supportedProtocolVersions":
		return fieldVersions
	case "selectedProtocolVersion":
		return fieldVersion
	case "message":
		return fieldMessage
	case "add":
		return fieldAdd
	case "remove":
		return fieldRemove
	case "newHeads":
		return fieldNewHeads
	}
	return fieldUnknown
}

// entries visits a map whose keys are names of fields: few, and none twice.
func (r *reader) entries(what string, m item, visit func(key []byte, value item)) {
	if m.major != majorMap {
		r.shape(what, "is not a map")
		return
	}
	if m.arg > maxFields {
		r.limit(what, maxFields, "fields")
		return
	}
	seen := make([][]byte, 0, 8) // on the stack, and enough for any message of the protocol
	for rest := m.body; len(rest) > 0; {
		var key, value item
		key, rest = next(rest)
		value, rest = next(rest)
		name, ok := key.text()
		if !ok {
			r.shape(what, "has a key that is not text")
			return
		}
		for _, other := range seen {
			if bytes.Equal(other, name) {
				r.shape(what, "has a field twice")
				return
			}
		}
		seen = append(seen, name)
		visit(name, value)
	}
}

func (r *reader) shape(what, wrong string) {
	if r.err == nil {
		r.err = &Error{Kind: KindShape, Reason: what + " " + wrong}
	}
}

func (r *reader) limit(what string, most int, unit string) {
	if r.err == nil {
		r.err = &Error{Kind: KindLimit, Reason: fmt.Sprintf("%s has more than %d %s", what, most, unit)}
	}
}

// boundedText reads text of at most most bytes. It is part of the frame.
func (r *reader) boundedText(what string, it item, most int) []byte {
	text, ok := it.text()
	if !ok {
		r.shape(what, "is not text")
		return nil
	}
	if len(text) > most {
		r.limit(what, most, "bytes")
		return nil
	}
	return text
}

func (r *reader) optionalID(f field) string {
	if !r.has[f] {
		return ""
	}
	return string(r.boundedText(fieldNames[f], r.fields[f], r.lim.ID))
}

func (r *reader) id(f field) string {
	s := r.optionalID(f)
	if s == "" {
		r.shape(fieldNames[f], "is missing or empty")
	}
	return s
}

func (r *reader) sender() PeerID { return PeerID(r.id(fieldSenderID)) }

// target is optional: nobody routes by it, and not every peer writes it.
func (r *reader) target() PeerID { return PeerID(r.optionalID(fieldTargetID)) }

// document reads the id's text or, as samod writes it, its bytes. An id that
// names no document is an error only if nothing else is wrong with the frame.
func (r *reader) document() crdt.DocumentID {
	if raw, ok := r.fields[fieldDocumentID].bytes(); ok {
		if len(raw) != rawDocument {
			r.shape(fieldNames[fieldDocumentID], "is not 16 bytes")
			return crdt.DocumentID{}
		}
		return crdt.DocumentID(raw)
	}
	text := r.id(fieldDocumentID)
	if text == "" {
		return crdt.DocumentID{}
	}
	id, err := crdt.ParseDocumentID(text)
	if err != nil {
		r.badDocument = text
	}
	return id
}

func (r *reader) data() []byte {
	data, ok := r.fields[fieldData].bytes()
	if !ok || len(data) == 0 {
		r.shape(fieldNames[fieldData], "is missing, empty or not a byte string")
	}
	return data
}

func (r *reader) count() uint64 {
	n, ok := r.fields[fieldCount].number()
	if !ok || !r.has[fieldCount] || n < 0 || n >= maxSafeInt || n != math.Trunc(n) {
		r.shape(fieldNames[fieldCount], "is missing or not a whole number from 0 to 2^53-1")
		return 0
	}
	return uint64(n)
}

func (r *reader) errorText() string {
	if !r.has[fieldMessage] {
		return ""
	}
	return string(r.boundedText(fieldNames[fieldMessage], r.fields[fieldMessage], maxMessage))
}

func (r *reader) metadata() (m Metadata) {
	if !r.has[fieldMetadata] {
		return m
	}
	r.entries(fieldNames[fieldMetadata], r.fields[fieldMetadata], func(key []byte, value item) {
		if value.absent() {
			return
		}
		switch string(key) {
		case nameStorageID:
			m.StorageID = StorageID(r.boundedText(nameStorageID, value, r.lim.ID))
		case nameIsEphemeral:
			var ok bool
			if m.IsEphemeral, ok = value.bool(); !ok {
				r.shape(nameIsEphemeral, "is not a boolean")
			}
		}
	})
	return m
}

// elements returns a list's items, at most Limits.List.
func (r *reader) elements(what string, list item) []item {
	if list.major != majorArray {
		r.shape(what, "is not a list")
		return nil
	}
	if list.arg > uint64(r.lim.List) {
		r.limit(what, r.lim.List, "elements")
		return nil
	}
	var items []item
	for rest := list.body; len(rest) > 0; {
		var it item
		it, rest = next(rest)
		items = append(items, it)
	}
	return items
}

func (r *reader) versions() []string {
	if !r.has[fieldVersions] {
		return []string{ProtocolVersion}
	}
	var versions []string
	for _, it := range r.elements(fieldNames[fieldVersions], r.fields[fieldVersions]) {
		versions = append(versions, string(r.boundedText(fieldNames[fieldVersions], it, r.lim.ID)))
	}
	return versions
}

func (r *reader) storageIDs(f field) []StorageID {
	if !r.has[f] {
		return nil
	}
	var ids []StorageID
	for _, it := range r.elements(fieldNames[f], r.fields[f]) {
		ids = append(ids, StorageID(r.boundedText(fieldNames[f], it, r.lim.ID)))
	}
	return ids
}

// newHeads reads a map whose keys are storage ids, not names of fields.
func (r *reader) newHeads() []RemoteHeads {
	m := r.fields[fieldNewHeads]
	if m.major != majorMap {
		r.shape(fieldNames[fieldNewHeads], "is missing or not a map")
		return nil
	}
	if m.arg > uint64(r.lim.List) {
		r.limit(fieldNames[fieldNewHeads], r.lim.List, "entries")
		return nil
	}
	var all []RemoteHeads
	for rest := m.body; len(rest) > 0 && r.err == nil; {
		var key, value item
		key, rest = next(rest)
		value, rest = next(rest)
		heads := r.remoteHeads(value)
		heads.StorageID = StorageID(r.boundedText(fieldNames[fieldNewHeads], key, r.lim.ID))
		all = append(all, heads)
	}
	slices.SortFunc(all, func(a, b RemoteHeads) int { return bytes.Compare([]byte(a.StorageID), []byte(b.StorageID)) })
	for i := range all[min(1, len(all)):] {
		if all[i].StorageID == all[i+1].StorageID {
			r.shape(fieldNames[fieldNewHeads], "has a storage id twice")
		}
	}
	return all
}

func (r *reader) remoteHeads(entry item) (h RemoteHeads) {
	var hasHeads, hasTimestamp bool
	r.entries(fieldNames[fieldNewHeads], entry, func(key []byte, value item) {
		switch string(key) {
		case nameHeads:
			hasHeads = true
			items := r.elements(nameHeads, value)
			if r.heads += len(items); r.heads > r.lim.List {
				r.limit(fieldNames[fieldNewHeads], r.lim.List, "heads")
				return
			}
			for _, it := range items {
				head, err := parseHead58(string(r.boundedText(nameHeads, it, maxHeadText)))
				if err != nil {
					r.shape(nameHeads, "has an element that is no head")
				}
				h.Heads = append(h.Heads, head)
			}
		case nameTimestamp:
			h.Timestamp, hasTimestamp = value.number()
		}
	})
	if !hasHeads || !hasTimestamp || math.IsNaN(h.Timestamp) || math.IsInf(h.Timestamp, 0) {
		r.shape(fieldNames[fieldNewHeads], "has an entry without heads or without a finite timestamp")
	}
	return h
}
