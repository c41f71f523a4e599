package session

import (
	"maps"
	"slices"
	"time"

	"parley/crdt"
	"parley/sync/wire"
)

// maxRemoteStores is how many stores' heads a document keeps for those who
// subscribe to them.
const maxRemoteStores = 128

// maxRemoteHeads is how many heads of a store are worth passing on.
const maxRemoteHeads = 64

// maxSubscriptions is how many stores one connection may subscribe to.
const maxSubscriptions = 128

// remoteHeads is what is known of the heads that other stores have, by storage
// id: automerge-repo's remote-heads gossip. The zero value is empty.
type remoteHeads map[wire.StorageID]wire.RemoteHeads

// learnPeerHeads notes the heads of a peer's store as the peer itself says.
func (d *Document) learnPeerHeads(now time.Time, p *peer, heads []crdt.Hash, out []Output) []Output {
	if p.Storage == "" {
		return out
	}
	out = d.askSubscriptions(out)
	if known, ok := d.remote[p.Storage]; ok && slices.Equal(known.Heads, heads) {
		return out
	}
	return d.learnHere(p.Conn, wire.RemoteHeads{StorageID: p.Storage, Heads: heads, Timestamp: millis(now)}, out)
}

// learnOwnHeads notes what this server has on disk, which is what a client asks
// for to know that its work is safe.
func (d *Document) learnOwnHeads(now time.Time, out []Output) []Output {
	return d.learn(0, wire.RemoteHeads{StorageID: d.cfg.Storage, Heads: d.Graph().Heads(), Timestamp: millis(now)}, out)
}

// learnRemoteHeads notes what a peer has heard of other stores, newest wins.
func (d *Document) learnRemoteHeads(now time.Time, in *RemoteHeadsInput, out []Output) []Output {
	for _, heads := range in.Heads {
		if d.isNews(now, &heads) && (d.wanted(heads.StorageID) || d.wantedElsewhere[heads.StorageID]) {
			out = d.learnHere(in.From.Conn, heads, out)
		}
	}
	return out
}

// isNews reports whether heads of another's store are newer than what is known.
func (d *Document) isNews(now time.Time, heads *wire.RemoteHeads) bool {
	heads.Timestamp = min(heads.Timestamp, millis(now)) // a clock ahead must not silence later news
	known, ok := d.remote[heads.StorageID]
	return heads.StorageID != d.cfg.Storage && !(ok && known.Timestamp >= heads.Timestamp)
}

// wanted reports whether anybody here has subscribed to a store.
func (d *Document) wanted(store wire.StorageID) bool {
	return slices.ContainsFunc(d.order, func(p *peer) bool {
		_, subscribed := p.remotes[store]
		return subscribed
	})
}

// learnHere is learn of what a peer said, which other nodes may want to know too.
func (d *Document) learnHere(from ConnID, heads wire.RemoteHeads, out []Output) []Output {
	out = d.learn(from, heads, out)
	if d.wantedElsewhere[heads.StorageID] {
		out = append(out, d.relayHeads(heads))
	}
	return out
}

func (d *Document) learn(from ConnID, heads wire.RemoteHeads, out []Output) []Output {
	store := heads.StorageID
	_, known := d.remote[store]
	if len(heads.Heads) > maxRemoteHeads || !known && len(d.remote) >= maxRemoteStores && store != d.cfg.Storage {
		return out
	}
	if d.remote == nil {
		d.remote = make(remoteHeads)
	}
	d.remote[store] = heads
	for _, p := range d.order {
		if _, subscribed := p.remotes[store]; subscribed && p.Conn != from {
			out = append(out, d.tellRemoteHeads(p, heads))
		}
	}
	return out
}

// subscribe changes what a connection wants to hear of, and tells it what is
// known already.
func (d *Document) subscribe(now time.Time, in *SubscribeInput, out []Output) []Output {
	p := d.peers[in.From.Conn]
	fresh := slices.DeleteFunc(slices.Clone(in.Add), func(store wire.StorageID) bool { return store == d.cfg.Storage || d.wanted(store) })
	for _, store := range in.Remove {
		delete(p.remotes, store)
	}
	for _, store := range in.Add {
		if len(p.remotes) >= maxSubscriptions {
			break
		}
		if _, known := d.remote[store]; !known && store == d.cfg.Storage && d.Graph().Durable() > 0 {
			out = d.learnOwnHeads(now, out) // nothing was stored since it was loaded
		}
		if p.remotes == nil {
			p.remotes = make(map[wire.StorageID]struct{})
		}
		p.remotes[store] = struct{}{}
		if heads, known := d.remote[store]; known {
			out = append(out, d.tellRemoteHeads(p, heads))
		}
	}
	if d.shared() && len(fresh) > 0 {
		out = append(out, d.relaySubscription(fresh))
	}
	return out
}

// askSubscriptions asks other nodes, once, which stores their connections want to
// hear of: there is a store here.
func (d *Document) askSubscriptions(out []Output) []Output {
	if !d.shared() || d.askedSubscriptions {
		return out
	}
	d.askedSubscriptions = true
	return append(out, d.relaySubscription(nil))
}

// subscribedElsewhere takes what connections on another node want to hear of; if it
// is nothing, that node asks. What is known already is told.
func (d *Document) subscribedElsewhere(m *wire.RemoteSubscriptionChange, out []Output) []Output {
	for _, store := range m.Add {
		if d.wantedElsewhere[store] || len(d.wantedElsewhere) >= maxRemoteStores {
			continue
		}
		if d.wantedElsewhere == nil {
			d.wantedElsewhere = make(map[wire.StorageID]bool)
		}
		d.wantedElsewhere[store] = true
		if heads, known := d.remote[store]; known && store != d.cfg.Storage {
			out = append(out, d.relayHeads(heads))
		}
	}
	if len(m.Add) > 0 {
		return out
	}
	wanted := make(map[wire.StorageID]struct{})
	for _, p := range d.order {
		maps.Copy(wanted, p.remotes)
	}
	delete(wanted, d.cfg.Storage)
	if len(wanted) > 0 {
		stores := slices.Sorted(maps.Keys(wanted))
		out = append(out, d.relaySubscription(stores[:min(len(stores), maxRemoteStores)]))
	}
	return out
}

// headsElsewhere takes what another node was told of its peers' stores.
func (d *Document) headsElsewhere(now time.Time, m *wire.RemoteHeadsChanged, out []Output) []Output {
	for _, heads := range m.NewHeads {
		if d.isNews(now, &heads) && d.wanted(heads.StorageID) {
			out = d.learn(0, heads, out)
		}
	}
	return out
}

func (d *Document) relaySubscription(stores []wire.StorageID) Relay {
	return Relay{wire.Append(nil, &wire.RemoteSubscriptionChange{SenderID: d.cfg.Self, Add: stores})}
}

func (d *Document) relayHeads(heads wire.RemoteHeads) Relay {
	return Relay{wire.Append(nil, &wire.RemoteHeadsChanged{
		SenderID: d.cfg.Self, DocumentID: d.id, NewHeads: []wire.RemoteHeads{heads},
	})}
}

func (d *Document) tellRemoteHeads(p *peer, heads wire.RemoteHeads) Send {
	return Send{Conn: p.Conn, Droppable: true, Frame: wire.Append(nil, &wire.RemoteHeadsChanged{
		SenderID: d.cfg.Self, TargetID: p.ID, DocumentID: d.id,
		NewHeads: []wire.RemoteHeads{heads},
	})}
}

func millis(t time.Time) float64 { return float64(t.UnixMilli()) }
