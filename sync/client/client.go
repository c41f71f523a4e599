package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/wire"
)

// Client is one user's replica of one transaction, and its connection. Its
// methods may be called from any goroutine.
type Client struct {
	// static
	opt      Options
	log      *slog.Logger
	document crdt.DocumentID
	url      string
	peer     wire.PeerID // one a client: a server replaces the dead half of a link
	session  wire.SessionID
	lock     *os.File // nil without a replica on disk

	requests chan request
	wake     chan struct{} // of capacity 1
	retry    chan struct{} // of capacity 1
	view     atomic.Pointer[View]

	stopConnecting context.CancelFunc
	connecting     sync.WaitGroup
	quit           chan struct{}  // closed to end the keeper
	kept           chan struct{}  // closed when it has ended
	following      sync.WaitGroup // callbacks; added to by the keeper
	closing        sync.Once
	closeErr       error

	keeper *keeper // owned by the keeper's goroutine until kept is closed
	said   uint64  // ephemeral messages; owned by the connection's writer

	// The last token that was refused, and how; owned by connect.
	badToken string
	refusal  *RefusedError
}

// Open opens a replica, and returns as soon as what is on disk can be read and
// picked on; a transaction that was never seen begins with what everybody
// knows of it. It connects in the background, until Close. ctx is for opening
// alone. A *LockedError says that another process has the replica.
func Open(ctx context.Context, opt Options) (*Client, error) {
	opt, err := opt.withDefaults(ctx)
	if err != nil {
		return nil, err
	}
	c := &Client{
		opt: opt, log: opt.Logger, document: opt.Transaction.Document(),
		peer:     newPeerID(),
		session:  wire.SessionID(uuid.NewString()),
		requests: make(chan request), wake: make(chan struct{}, 1), retry: make(chan struct{}, 1),
		quit: make(chan struct{}), kept: make(chan struct{}),
	}
	if opt.Server != "" {
		if c.url, err = opt.serverURL(); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.openReplica(); err != nil {
		return nil, err
	}
	c.start()
	return c, nil
}

// openReplica locks and reads the replica, and makes sure that it begins as
// every replica does.
func (c *Client) openReplica() (err error) {
	dir := ""
	if c.opt.Replica != "" {
		dir = filepath.Join(c.opt.Replica, replicaName(c.document, c.opt.User))
		if err := os.MkdirAll(dir, folderMode); err != nil {
			return err
		}
		if c.lock, err = lockFolder(dir); err != nil {
			return err
		}
	}
	r, cut, err := openReplica(dir, owner{Transaction: c.opt.Transaction, User: c.opt.User})
	if err != nil {
		return errors.Join(err, c.unlock())
	}
	if cut > 0 {
		c.log.Warn("cut off what was being written when the last process ended", "bytes", cut)
	}
	c.keeper, err = newKeeper(r, c)
	if err != nil {
		return errors.Join(err, r.close(), c.unlock())
	}
	return nil
}

// replicaName is a folder's name for any transaction and user: ids may differ
// in case alone, and be "..".
func replicaName(doc crdt.DocumentID, user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(doc[:]) + "-" + hex.EncodeToString(sum[:8])
}

func newKeeper(r *replica, c *Client) (*keeper, error) {
	genesis := transaction.Genesis(c.opt.Transaction)
	k := &keeper{
		log: c.log, wake: c.wake, genesis: genesis.Hash, role: c.opt.localRole(),
		replica: r, actor: newActor(), people: people{user: c.opt.User},
		watchers: make(map[chan View]struct{}),
		publish:  func(v View) { c.view.Store(&v) },
	}
	if out := r.add(genesis, true); out.Status == crdt.Refused {
		return nil, out.Refusal
	}
	if err := r.commit(); err != nil {
		return nil, err
	}
	k.setStatus(Status{State: Offline})
	k.show()
	return k, nil
}

// start begins the goroutines that Close ends.
func (c *Client) start() {
	go func() {
		defer close(c.kept)
		c.keeper.run(c.requests, c.quit)
	}()
	ctx, cancel := context.WithCancel(context.Background())
	c.stopConnecting = cancel
	if c.url != "" {
		c.setStatus(Status{State: Connecting})
		c.connecting.Go(func() { c.connect(ctx) })
	}
}

// Close sends what can be sent while ctx lasts, see [Client.Flush], takes leave
// of the server, and lets go of the replica. What was not sent is on disk, if
// the replica is, and travels when it is opened again. Close is idempotent.
func (c *Client) Close(ctx context.Context) error {
	c.closing.Do(func() {
		_ = c.Flush(ctx)
		c.stopConnecting()
		c.connecting.Wait()
		close(c.quit)
		<-c.kept
		c.following.Wait()
		c.closeErr = errors.Join(c.keeper.replica.close(), c.unlock())
	})
	return c.closeErr
}

func (c *Client) unlock() error {
	if c.lock == nil {
		return nil
	}
	_ = c.lock.Truncate(0)
	return c.lock.Close()
}

// ErrUnsaved says that changes are here that the server is not known to have.
var ErrUnsaved = errors.New("the server does not have everything yet")

// Flush waits until the server has all that was made here, and we have what it
// had. It gives up when ctx ends, and at once when there is no connection and a
// try to make one has failed; it returns ErrUnsaved then, or why.
func (c *Client) Flush(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for v := range c.Watch(ctx) {
		switch {
		case v.Synced.Saved && v.Synced.Current:
			return nil
		case v.Status.State == Offline || v.Status.Tries > 0 || v.Status.Unavailable:
			return errors.Join(ErrUnsaved, v.Status.Err)
		}
	}
	return errors.Join(ErrUnsaved, ctx.Err())
}
