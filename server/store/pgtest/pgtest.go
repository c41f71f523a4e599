// Package pgtest runs a PostgreSQL for tests: a real one, of the machine's own
// installation, in a folder that goes with the test. Only tests import it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Missing is why tests are skipped where no PostgreSQL is installed.
const Missing = "no PostgreSQL is installed: install it (Debian: apt-get install postgresql), or name the folder of its programs in POSTGRES_BIN"

// Options configure a [Server]. The zero value is for tests that do not crash it.
type Options struct {
	// Durable waits for the disk, as one does that is not for tests.
	Durable bool
	// Closed is for a standby: it lets nobody in until it is promoted.
	Closed bool
}

// Server is a PostgreSQL on a free port of this machine. It ends with the test's
// process, however that ends.
type Server struct {
	bin, dir string
	port     int
	as       *syscall.Credential
	opt      Options

	cmd    *exec.Cmd
	stdin  interface{ Close() error }
	lastDB atomic.Int64
}

// shared is the one that all tests of a binary use that do not crash it.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs a binary's tests, and stops the shared server after them.
func Main(m *testing.M) (code int) {
	defer func() {
		if shared.server != nil {
			shared.server.Stop()
		}
	}()
	return m.Run()
}

// Shared returns the binary's server, which [Main] stops.
func Shared(t testing.TB) *Server {
	t.Helper()
	bin := installed(t)
	shared.once.Do(func() { shared.server, shared.err = start(bin, Options{}) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Start returns a server for this test alone.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	s, err := start(installed(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func installed(t testing.TB) string {
	t.Helper()
	for _, dir := range append([]string{os.Getenv("POSTGRES_BIN")}, candidates()...) {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir
		}
	}
	t.Skip(Missing)
	return ""
}

// candidates are the newest version of Debian's, and what the path has.
func candidates() (dirs []string) {
	dirs, _ = filepath.Glob("/usr/lib/postgresql/*/bin")
	for i, j := 0, len(dirs)-1; i < j; i, j = i+1, j-1 {
		dirs[i], dirs[j] = dirs[j], dirs[i]
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

func start(bin string, opt Options) (_ *Server, err error) {
	s := &Server{bin: bin, opt: opt}
	if s.dir, err = os.MkdirTemp("", "parley-postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.dir)
		}
	}()
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		if s.as, err = nobody(); err == nil {
			err = os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid))
		}
		if err != nil {
			return nil, err
		}
	}
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "parley", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	init.Dir, init.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.as}
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

// nobody is who the server runs as if we are root.
func nobody() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres nor nobody")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// watched starts a program and stops it when nobody holds its standard input any
// more: the server does not outlive a test's process that was killed.
const watched = `"$@" </dev/null & server=$!; cat >/dev/null; kill -INT $server 2>/dev/null; wait $server`

// Restart starts a server that was stopped or killed.
func (s *Server) Restart() error {
	durable := setting(s.opt.Durable)
	s.cmd = exec.Command("/bin/sh", "-c", watched, "sh", filepath.Join(s.bin, "postgres"), "-D", s.data(),
		"-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync="+durable, "-c", "full_page_writes="+durable, "-c", "shared_buffers=32MB", "-c", "max_connections=200",
		"-c", "max_wal_size=256MB", "-c", "deadlock_timeout=200ms", "-c", "hot_standby="+setting(!s.opt.Closed))
	s.cmd.Dir, s.cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.as}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = s.ping(); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not start: %w\n%s", err, s.Log())
		}
	}
}

func (s *Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	var said *pgconn.PgError
	if s.opt.Closed && errors.As(err, &said) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

func setting(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Log is what the server has logged.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b)
}

// Port is the one that it listens on.
func (s *Server) Port() int { return s.port }

// URL is of a database on it.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://parley@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Database makes a new, empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.lastDB.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// Schema makes a new, empty schema in a database that tests share, and returns a URL
// that leads there. It takes a tenth of the time that a database takes.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("schema%d", s.lastDB.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE SCHEMA "+name)
	return s.URL("postgres") + "&search_path=" + name
}

// Exec runs SQL as the database's owner.
func (s *Server) Exec(t testing.TB, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// CPU is what the server's processes have used, as far as they live; Linux tells.
func (s *Server) CPU(t testing.TB) (used time.Duration) {
	t.Helper()
	pid := s.pid(t)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // what follows the name: state, parent, and so on
		f := strings.Fields(rest)
		if len(f) < 13 || f[1] != strconv.Itoa(pid) {
			continue
		}
		user, _ := strconv.Atoi(f[11])
		kernel, _ := strconv.Atoi(f[12])
		used += time.Duration(user+kernel) * 10 * time.Millisecond // of the kernel's ticks
	}
	return used
}

// pid is the first process's.
func (s *Server) pid(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// Kill ends the server as a crash does, and waits until its processes are gone. It
// is started again by Restart.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(s.pid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = s.stdin.Close()
	_ = s.cmd.Wait() // it was killed
	s.cmd = nil
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	if s.cmd != nil {
		_ = s.stdin.Close()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
	_ = os.RemoveAll(s.dir)
}
