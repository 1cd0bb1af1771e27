package dockerapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// defaultGroup may be missing on the host; another group that is asked for may not.
const defaultGroup = "brig"

// Listen opens the API's socket: unix://PATH, mode 0660 and of the group (a name or a number; "": root's), or tcp://ADDRESS:PORT, with
// mutual (see MutualTLS) on any address and without it on a loopback address alone. The caller closes it; closing removes the socket
// file. Conflict: another server answers there.
func Listen(ctx context.Context, log *slog.Logger, host, group string, mutual *tls.Config) (net.Listener, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case ok && scheme == "unix" && strings.HasPrefix(rest, "/"):
		return listenUnix(ctx, log, rest, group)
	case ok && scheme == "tcp":
		return listenTCP(ctx, log, rest, mutual)
	}
	return nil, errs.New(errs.Invalid, "can't listen on %q: want unix:///PATH or tcp://ADDRESS:PORT", host)
}

// MutualTLS takes the clients whose certificates one of the authorities in the file ca has signed, and no others. All files are PEM.
func MutualTLS(ca, cert, key string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, errs.New(errs.Invalid, "could not load the TLS certificate %s with key %s: %w", cert, key, err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, errs.New(errs.Invalid, "could not read the CA certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errs.New(errs.Invalid, "there is no certificate in %s", ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}, nil
}

// listenTCP takes loopback addresses only, unless clients must prove who they are: whoever can connect is root here.
func listenTCP(ctx context.Context, log *slog.Logger, addr string, mutual *tls.Config) (net.Listener, error) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, errs.New(errs.Invalid, "can't listen on tcp://%s: %w", addr, err)
	}
	if mutual == nil && !loopbackName(name) {
		return nil, errs.New(errs.Invalid, "can't listen on tcp://%s: only on a loopback address, unless clients are verified: --tlsverify with --tlscacert, --tlscert and --tlskey", addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, errs.Wrap(err, "listen on tcp://%s", addr)
	}
	if mutual != nil {
		return tls.NewListener(l, mutual), nil
	}
	log.Warn("the API has no TLS: every user of this host who can connect to it has root's rights", "address", l.Addr().String())
	return l, nil
}

// loopbackName reports whether a host name or address means this host alone.
func loopbackName(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// listenUnix binds under a name of its own, sets owner and mode, and renames: nobody can connect before the mode is right, and a
// dead server's socket is replaced in one step.
func listenUnix(ctx context.Context, log *slog.Logger, path, group string) (net.Listener, error) {
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	tmp := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap(err, "remove an old socket")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", tmp)
	if err != nil {
		return nil, errs.Wrap(err, "listen on unix://%s", path)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ul, path: path}
	if s.file, err = place(log, tmp, path, group); err != nil {
		return nil, errors.Join(errs.Wrap(err, "listen on unix://%s", path), ul.Close(), os.Remove(tmp))
	}
	return s, nil
}

// checkStale refuses a path where a server answers, or where something lies that is no socket.
func checkStale(ctx context.Context, path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.Wrap(err, "look for a socket")
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return errs.New(errs.Conflict, "can't listen on unix://%s: it is there already and no socket", path)
	}
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		return errs.New(errs.Conflict, "can't listen on unix://%s: another server answers there", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // its server is dead
	}
	return errs.New(errs.Conflict, "can't listen on unix://%s: can't tell whether another server answers there: %w", path, err)
}

// place gives the socket tmp its owner and mode, and then its name.
func place(log *slog.Logger, tmp, path, group string) (fs.FileInfo, error) {
	if err := os.Chmod(tmp, 0o660); err != nil {
		return nil, err
	}
	gid, err := groupID(group)
	if err != nil && group == defaultGroup {
		log.Warn("the API socket belongs to root alone: no such group", "group", group, "socket", path)
	} else if err != nil {
		return nil, err
	}
	if gid == 0 && os.Geteuid() != 0 {
		gid = -1 // a brigd that isn't root's, as in tests, can't give to root's group
	}
	if err := os.Lchown(tmp, -1, gid); err != nil {
		return nil, err
	}
	fi, err := os.Lstat(tmp)
	if err != nil {
		return nil, err
	}
	return fi, os.Rename(tmp, path)
}

// groupID finds a group by name or number; root's is 0, and returned with an error, too.
func groupID(group string) (int, error) {
	if group == "" {
		return 0, nil
	}
	g, err := user.LookupGroup(group)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	if n, e := strconv.ParseUint(group, 10, 31); e == nil {
		return int(n), nil
	}
	return 0, errs.New(errs.Invalid, "there is no group %q that the socket could be given to: %w", group, err)
}

// A socket removes its file when it is closed, if the file is still its own.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

// Close implements net.Listener.
func (s *socket) Close() error {
	s.once.Do(func() {
		if fi, err := os.Lstat(s.path); err == nil && os.SameFile(fi, s.file) {
			os.Remove(s.path) // a socket left over is found to be dead by the next server
		}
	})
	return s.UnixListener.Close()
}
