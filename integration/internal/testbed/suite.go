package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/brigd/brig/integration/internal/images"
)

// Exit ends the test program name with its tests' exit code, or with another than 0 where its set-up or its end failed.
func Exit(name string, code int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// StockedRegistry starts a registry in the folder dir, which it makes, and pushes images to it.
func StockedRegistry(ctx context.Context, dir string, set images.Set) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	reg, err := StartRegistry(ctx, dir, "", "")
	if err != nil {
		return nil, err
	}
	if err := set.Push(ctx, reg.Addr, nil); err != nil {
		reg.Close()
		return nil, err
	}
	return reg, nil
}

// Serve gives the server that BRIG_TEST_HOST names, or starts a brigd of the programs in bin in the folder dir, which it makes.
func Serve(ctx context.Context, bin, dir string) (*Server, error) {
	if host := os.Getenv("BRIG_TEST_HOST"); host != "" {
		return Borrow(host), nil
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := NewServer(bin, dir)
	return s, s.Start(ctx)
}

// exiting is how long a process that has let go of all that others wait for may take to be gone.
const exiting = 500 * time.Millisecond

// End stops a server of ours, and says what it left on the host.
func (s *Server) End() error {
	if !s.Owned {
		return nil
	}
	if err := s.Stop(); err != nil {
		return fmt.Errorf("%w\n%s", err, LogEnd(s.Log))
	}
	for until := time.Now().Add(Slow(exiting)); ; time.Sleep(10 * time.Millisecond) {
		left, err := s.Leftovers(true)
		if err != nil {
			return err
		}
		if len(left) == 0 || time.Now().After(until) {
			return LeftError(left)
		}
	}
}

// LeftError names what a server left; nil: nothing.
func LeftError(left []string) error {
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("brigd left on the host:\n%s", strings.Join(left, "\n"))
}

// LogEnd is the end of a server's log.
func LogEnd(file string) string {
	b, _ := os.ReadFile(file)
	return string(b[max(0, len(b)-6000):])
}
