package postgres

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"parley/crdt"
	"parley/server/store"
)

const (
	openWithin   = 15 * time.Second
	commitWithin = 30 * time.Second
	readWithin   = 30 * time.Second
)

// perSession is what every connection is told. A commit that is acknowledged is on
// disk, whatever the database's own default; a node that stops within a transaction,
// or is cut off, does not hold its locks.
const perSession = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
	SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '5s';
	SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
	SET bytea_output = 'hex'; SET default_transaction_isolation = 'read committed'`

// IsURL reports whether text names a PostgreSQL database rather than a folder.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// Backend is an open database.
type Backend struct {
	// static
	opt       store.Options
	config    *pgx.ConnConfig
	storageID string
	pool      *pgxpool.Pool // of those who read
	node      store.Node

	seq     atomic.Uint64             // the last number that was given to something published
	begun   atomic.Uint64             // that of the lease; 0: there was none
	counted atomic.Pointer[time.Time] // until when others may count on it; nil: they do not

	listening     sync.WaitGroup
	stopListening context.CancelFunc // nil: nobody follows

	// owned by the committer
	writer link
	known  map[crdt.DocumentID]struct{}
	slow   bool // the last transaction that sealed took too long

	// owned by who publishes
	publishing link

	// owned by who beats
	beating link
	lease   lease
}

// Open opens the database of a URL, and makes the tables if there are none. No
// error says the password.
func Open(ctx context.Context, url string, opt store.Options) (*store.Store, error) {
	b, err := open(ctx, url, opt, whole)
	if err != nil {
		return nil, err
	}
	return store.Over(b, opt), nil
}

// open opens a database. begin looks at it, once its tables are there.
func open(ctx context.Context, url string, opt store.Options, begin func(context.Context, pgx.Tx) error) (*Backend, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	b := &Backend{opt: opt, config: config.ConnConfig, known: make(map[crdt.DocumentID]struct{})}
	c, err := b.connectFirst(ctx)
	if err != nil {
		return nil, b.unopened(err)
	}
	if err = mustBeUTF8(ctx, c); err == nil {
		b.storageID, err = migrate(ctx, c, begin)
	}
	if err == nil {
		err = b.warn(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(b.unopened(err), c.Close(ctx))
	}
	b.writer.Conn = c
	_, _ = rand.Read(b.node[:]) // never fails
	config.MaxConns = int32(max(opt.Readers, 4))
	config.AfterConnect = setUp
	// Who reads is not to meet a connection that the database has ended meanwhile.
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > 50*time.Millisecond }
	if b.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, errors.Join(b.unopened(err), c.Close(ctx))
	}
	return b, nil
}

// parse reads a URL. What pgx says of a wrong one may repeat it, with the password.
func parse(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil || !IsURL(url) {
		return nil, errors.New("the store's address cannot be read: want postgres://USER:PASSWORD@HOST:PORT/DATABASE, with characters of a password that have a meaning in addresses written as %XX")
	}
	config.ConnConfig.ConnectTimeout = openWithin
	config.ConnConfig.ValidateConnect = takesWrites
	config.ConnConfig.RuntimeParams["application_name"] = "parley"
	return config, nil
}

// errReadOnly says that a database takes no writes: most likely it follows another,
// and what is read there may be old.
var errReadOnly = errors.New("it takes no writes; if it is a copy of another, give that one's address")

func takesWrites(ctx context.Context, c *pgconn.PgConn) error {
	read, err := c.Exec(ctx, "SHOW transaction_read_only").ReadAll()
	if err != nil {
		return err
	}
	if len(read) == 1 && len(read[0].Rows) == 1 && string(read[0].Rows[0][0]) == "on" {
		return errReadOnly
	}
	return nil
}

func connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := setUp(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// startingEvery is how often a database that takes nobody in yet is asked again.
const startingEvery = 250 * time.Millisecond

// connectFirst connects to a database, and waits for one that takes nobody in yet:
// machines that start together are not to depend on the order.
func (b *Backend) connectFirst(ctx context.Context) (*pgx.Conn, error) {
	var because error
	for {
		c, err := connect(ctx, b.config)
		if err != nil && ctx.Err() != nil && because != nil {
			return nil, because // not that the time is over
		}
		if err == nil || !startsPerhaps(err) {
			return c, err
		}
		if because == nil && b.opt.Logger != nil {
			b.opt.Logger.Info("waiting for the database", "because", said(err), "at_most", openWithin)
		}
		because = err
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(startingEvery):
		}
	}
}

// startsPerhaps reports whether an error is that of a database which starts, or is
// about to. What it says itself is not, such as that there is no such user.
func startsPerhaps(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == codeCannotConnectNow
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// codeCannotConnectNow is PostgreSQL's for: it starts, recovers, or shuts down.
const codeCannotConnectNow = "57P03"

func setUp(ctx context.Context, c *pgx.Conn) error {
	_, err := c.PgConn().Exec(ctx, perSession).ReadAll()
	return err
}

// encodingError says that a database keeps text in an encoding that does not have
// every character.
type encodingError string

func (e encodingError) Error() string {
	return "its encoding is " + string(e) + ", and names of people and fields may have any character: make another one, in UTF-8 (createdb -E UTF8 -T template0)"
}

func mustBeUTF8(ctx context.Context, c *pgx.Conn) error {
	var encoding string
	if err := c.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return encodingError(encoding)
	}
	return nil
}

// warn says what of the database's configuration breaks promises of ours.
func (b *Backend) warn(ctx context.Context, c *pgx.Conn) error {
	var fsync, pages string
	if err := c.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &pages); err != nil {
		return err
	}
	if (fsync != "on" || pages != "on") && b.opt.Logger != nil {
		b.opt.Logger.Warn("the database does not wait for its disk: a power failure may lose what was acknowledged", "fsync", fsync, "full_page_writes", pages)
	}
	return nil
}

// Place says where the database is, without the password.
func Place(url string) string {
	config, err := parse(url)
	if err != nil {
		return "postgres"
	}
	return place(config.ConnConfig)
}

func place(c *pgx.ConnConfig) string {
	return "postgres://" + net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) + "/" + c.Database
}

// unopened says what to do about a database that cannot be opened.
func (b *Backend) unopened(err error) error {
	where := place(b.config)
	var newer *NewerError
	var foreign *ForeignError
	var other *OtherContentError
	var unfinished *UnfinishedError
	var encoding encodingError
	var pg *pgconn.PgError
	var unknown *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &newer), errors.As(err, &foreign), errors.As(err, &other), errors.As(err, &unfinished), errors.As(err, &encoding):
		return fmt.Errorf("%s: %w", where, err)
	case errors.Is(err, errReadOnly):
		return fmt.Errorf("open %s: %w", where, errReadOnly)
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return fmt.Errorf("open %s: there is no host %s: is the address of --store right?", where, unknown.Name)
	case errors.As(err, &unknown):
		return fmt.Errorf("open %s: %s cannot be looked up (%s): is there a name server?", where, unknown.Name, unknown.Err)
	case errors.As(err, &certificate):
		return fmt.Errorf("open %s: its certificate is not believed: %w: name the authority that signed it (sslrootcert=FILE in the address), and the host as the certificate does", where, certificate.Err)
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgx has no value for it
		return fmt.Errorf("open %s: it speaks no TLS, and the address asks for that: turn it on there (ssl = on), or say sslmode=disable where nobody listens in between", where)
	case errors.As(err, &pg):
		return fmt.Errorf("open %s: %s (%s)%s", where, pg.Message, pg.Code, advice(pg.Code))
	}
	return fmt.Errorf("open %s: %w: is it running, and is the address right?", where, said(err))
}

// advice says what to do about an error of the database's when it is opened.
func advice(code string) string {
	switch code {
	case "28P01", "28000":
		return ": check the user and the password of --store"
	case "3D000":
		return ": make it with createdb"
	case "3F000":
		return ": make the schema that search_path names in the address (CREATE SCHEMA), as the user of --store"
	case codeCannotConnectNow:
		return ": it took nobody in while this waited for it: its log says why; start this again when it does"
	case "42501":
		return ": let its user make tables there (GRANT CREATE, USAGE ON SCHEMA), or start one node as a user who may"
	}
	return ""
}

// said makes one line of what pgx says, whose errors of connecting have several.
func said(err error) error {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		return err
	}
	var op *net.OpError
	switch {
	case errors.Is(err, errReadOnly):
		return errReadOnly
	case errors.As(err, &op):
		return op
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", openWithin)
	}
	return errors.New(strings.Join(strings.Fields(failed.Error()), " "))
}

// StorageID implements [store.Backend].
func (b *Backend) StorageID() string { return b.storageID }

// Agree implements [store.Backend].
func (b *Backend) Agree(ctx context.Context, name, value string) (string, error) {
	agreed := ""
	name = "agreed:" + name
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if value != "" {
		if _, err := b.pool.Exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, value); err != nil {
			return "", said(err)
		}
	}
	err := b.pool.QueryRow(ctx, "SELECT value FROM meta WHERE name = $1", name).Scan(&agreed)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", said(err)
	}
	return agreed, nil
}

// Close implements [store.Backend].
func (b *Backend) Close() error {
	if b.stopListening != nil {
		b.stopListening()
		b.listening.Wait()
	}
	b.pool.Close()
	for _, l := range []*link{&b.writer, &b.publishing, &b.beating} {
		l.discard()
	}
	return nil // all that is acknowledged is on disk
}

// link is a connection that is opened when it is needed, and closed when it fails.
type link struct {
	*pgx.Conn // nil: to be opened
}

func (l *link) ready(ctx context.Context, config *pgx.ConnConfig) error {
	if l.Conn != nil {
		return nil
	}
	c, err := connect(ctx, config)
	if err != nil {
		return store.Passing(fmt.Errorf("connect to %s: %w", place(config), said(err)))
	}
	l.Conn = c
	return nil
}

// discard closes the connection. What closing it reports adds nothing.
func (l *link) discard() {
	if l.Conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.Close(ctx)
	l.Conn = nil
}

func isState(err error, codes ...string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains(codes, e.Code)
}

// passingClasses are the classes of SQLSTATE that have to do with the connection
// (08), with other transactions (40), with what there is little of (53), with
// somebody's intervention (57) or with the machine (58): PostgreSQL's appendix A.
var passingClasses = []string{"08", "40", "53", "57", "58"}

// passingCodes are of other classes: the database is a copy of another (25006), a
// transaction was idle for too long (25P03), a lock was not had in time (55P03), a
// right is missing (42501).
var passingCodes = []string{"25006", "25P03", "55P03", "42501"}

// judged marks an error after which trying again may help.
func judged(err error, closed bool) error {
	var pg *pgconn.PgError
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg):
		if len(pg.Code) == 5 && slices.Contains(passingClasses, pg.Code[:2]) || slices.Contains(passingCodes, pg.Code) {
			return store.Passing(err)
		}
		return err
	case closed, errors.As(err, &network), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return store.Passing(err)
	}
	return err
}
