package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// Options are brig-mds's.
type Options struct {
	Dir       string // its own: socket, lock, logs. brigd's alone once it serves
	Published string // the directory of published pods
	UID, GID  int    // that it serves as; not root's
	Port      uint16 // 0: Port
}

// ParseOptions reads the arguments that a Publisher gives.
func ParseOptions(args []string) (o Options, ok bool) {
	if len(args) != 6 || args[0] != survivor.DirFlag || args[2] != publishedFlag || args[4] != userFlag {
		return o, false
	}
	u, g, _ := strings.Cut(args[5], ":")
	uid, err1 := strconv.Atoi(u)
	gid, err2 := strconv.Atoi(g)
	return Options{Dir: args[1], Published: args[3], UID: uid, GID: gid}, err1 == nil && err2 == nil
}

// accessLog is the name of the access log in Options.Dir; a second file has what was written before.
const accessLog = "access.log"

// retryDoors is how soon an address that couldn't be listened on is tried again.
const retryDoors = time.Second

// server is the process's state beside the service.
type server struct {
	survivor.Server
	service *service
	doors   *doors
	retry   *time.Timer // its lock is the Server's
}

// Run is brig-mds: it serves what is published until ctx ends, or nobody is published and brigd is gone. It begins as root where brigd
// is, opens what it needs, and gives everything else up before it says its first word.
func Run(ctx context.Context, o Options, log *slog.Logger) (err error) {
	l, lock, err := survivor.Listen(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer l.Close()
	access, err := openAccess(filepath.Join(o.Dir, accessLog))
	if err != nil {
		return err
	}
	defer access.Close()
	dir, err := os.OpenRoot(o.Published)
	if err != nil {
		return errs.Wrap(err, "open what is published")
	}
	defer dir.Close()
	if err := drop(o, log); err != nil {
		return err
	}
	if o.Port == 0 {
		o.Port = Port
	}
	p := newPods(dir, log)
	s := &server{service: newService(p, slog.New(slog.NewTextHandler(access, nil)))}
	s.Server.Protocol, s.Server.Log, s.Server.Do, s.Server.Left = protocol, log, s.do, s.endIfUnused
	s.doors = newDoors(o.Port, s.service, func(source, gateway netip.Addr) bool { return len(p.at(source, gateway)) > 0 }, log)
	s.retry = time.AfterFunc(time.Hour, s.openDoors)
	s.retry.Stop()
	idle := time.AfterFunc(10*time.Second, s.endIfAlone) // brigd hasn't come
	s.Start(l, lock)
	select {
	case <-ctx.Done():
	case <-s.Ended():
	}
	idle.Stop()
	l.Close()
	s.close()
	return nil
}

// close ends everything and waits for it.
func (s *server) close() {
	s.HangUp()
	s.Lock()
	s.retry.Stop()
	s.Unlock()
	grace := time.Duration(0)
	if len(s.service.pods.uuids()) > 0 { // else there is nobody to answer
		grace = time.Second
	}
	s.doors.close(grace)
	s.Wait()
}

// do carries out a request. The lock is held.
func (s *server) do(op string, raw json.RawMessage) survivor.Answer {
	var q request
	err := errs.As(errs.Invalid, json.Unmarshal(raw, &q))
	switch {
	case err != nil:
	case op == opSet && q.Keys != nil:
		if err = q.Keys.check(); err != nil {
			break
		}
		s.service.issuer.Store(&q.Issuer)
		s.service.keys.Store(q.Keys)
		err = s.service.pods.look(nil)
	case op == opLook && s.service.keys.Load() != nil:
		err = s.service.pods.look(append([]string{}, q.UUIDs...))
	default:
		err = errs.New(errs.Invalid, "unknown request %q", op)
	}
	a := new(answer)
	if err = errors.Join(err, s.setDoors()); err != nil {
		s.Log.Warn("not all could be done", "op", op, "err", err)
		a.Error = err.Error()
	}
	return a
}

// setDoors listens where pods are; what doesn't work is tried again. The caller holds the lock.
func (s *server) setDoors() error {
	err := s.doors.set(s.service.pods.gateways())
	if err != nil && !s.Ending() {
		s.retry.Reset(retryDoors)
	}
	return err
}

func (s *server) openDoors() {
	s.Lock()
	defer s.Unlock()
	_ = s.setDoors() // it was logged when it failed first
}

func (s *server) endIfAlone() {
	s.Lock()
	defer s.Unlock()
	if s.Alone() {
		s.endIfUnused()
	}
}

// endIfUnused ends what serves nobody. The caller holds the lock, and has seen that no brigd is there.
func (s *server) endIfUnused() {
	if len(s.service.pods.uuids()) == 0 {
		s.End()
	}
}
