package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Server is a brigd on a root of its own, or (Owned false) one that somebody else runs.
type Server struct {
	Host  string // unix://PATH
	Root  string // "" unless Owned
	Owned bool
	Log   string   // file that holds what brigd said, over all its lives
	Env   []string // more variables for brigd
	bin   string
	args  []string
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has been waited for
}

// Borrow is a server that runs already.
func Borrow(host string) *Server { return &Server{Host: host} }

// NewServer prepares a brigd of the programs in bin under dir, which must be short: a socket's path has 107 bytes at most.
func NewServer(bin, dir string, args ...string) *Server {
	return &Server{Host: "unix://" + filepath.Join(dir, "s"), Root: filepath.Join(dir, "r"), Owned: true,
		Log: filepath.Join(dir, "log"), bin: bin, args: args}
}

// Start starts brigd and returns when it answers. It may be called again after Kill or Stop.
func (s *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = s.Command(context.Background())
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start brigd: %w", err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(s.cmd, s.done)
	if err := Ready(ctx, s.Host, s.done); err != nil {
		said, _ := os.ReadFile(s.Log)
		return fmt.Errorf("brigd: %w\n%s", err, said[max(0, len(said)-4000):])
	}
	return nil
}

// Command is brigd's command line on this root, as a second one would be started by mistake.
func (s *Server) Command(ctx context.Context) *exec.Cmd {
	args := append([]string{"--config", "", "--root", s.Root, "--host", s.Host, "--log-level", "debug", "--unsigned-acis", "files"}, s.args...)
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "brigd"), args...)
	cmd.Env = append(os.Environ(), s.Env...)
	// A group of its own: a Ctrl-C that is meant for the tests must not reach it first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Pid is brigd's, while it runs.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends brigd with SIGKILL; Stop with SIGTERM, and with SIGKILL after 30 seconds, which is an error. Both wait.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// Gone is closed when brigd has ended, however that came about.
func (s *Server) Gone() <-chan struct{} { return s.done }

func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		if code := s.cmd.ProcessState.ExitCode(); code > 0 {
			return fmt.Errorf("brigd ended with exit code %d after SIGTERM", code)
		}
		return nil
	case <-time.After(Slow(30 * time.Second)):
		s.Kill()
		return errors.New("brigd did not end within 30 s of SIGTERM")
	}
}

// Ready waits until the server at host answers /_ping. It gives up when gone is closed (nil: never) or ctx is done.
func Ready(ctx context.Context, host string, gone <-chan struct{}) error {
	client := Client(host)
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/_ping", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-gone:
			return errors.New("ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("no answer at %s: %w", host, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Client speaks HTTP to the server's socket; the URL's host does not matter.
func Client(host string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
	}}}
}

// Get returns the status, the headers and the body of a GET.
func (s *Server) Get(ctx context.Context, path string) (int, http.Header, string, error) {
	client := Client(s.Host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d"+path, nil)
	if err != nil {
		return 0, nil, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}
