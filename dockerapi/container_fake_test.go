package dockerapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// program is what a container of the fleet runs.
type program func(in io.Reader, out, err io.Writer) (code int)

func echo(in io.Reader, out, _ io.Writer) int { io.Copy(out, in); return 0 }

// fleet is an engine in memory: containers that really move from state to state, with programs that really read and write.
type fleet struct {
	mu     sync.Mutex
	ships  []*ship // newest first
	execs  map[brig.ID]*brig.Exec
	files  map[string][]byte
	images []brig.ImageInfo
	prog   program // of containers to come, and of execs
	log    []brig.LogEntry
}

type ship struct {
	c       *brig.Container
	prog    program
	in      *io.PipeReader
	feed    *io.PipeWriter
	streams []brig.IO
	ended   chan struct{}
	exit    brig.Exit
	waiters []chan brig.Exit
}

func (f *fleet) find(ref string) (*ship, error) {
	for _, s := range f.ships {
		if s.c.Name == ref {
			return s, nil
		}
	}
	for _, s := range f.ships { // a random ID may begin with another's name
		if strings.HasPrefix(string(s.c.ID), ref) && ref != "" {
			return s, nil
		}
	}
	return nil, errs.New(errs.NotFound, "No such container: %s", ref)
}

func (f *fleet) Create(_ context.Context, r brig.CreateRequest) (brig.ID, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.images, func(i brig.ImageInfo) bool { return slices.Contains(i.Tags, r.Spec.Image) }) {
		return "", nil, errs.New(errs.NotFound, "No such image: %s", r.Spec.Image)
	}
	if _, err := f.find(r.Name); err == nil {
		return "", nil, errs.New(errs.Conflict, "Conflict. The container name \"/%s\" is already in use", r.Name)
	}
	s := &ship{prog: f.prog, ended: make(chan struct{}), c: &brig.Container{
		ID: brig.NewID(), Name: r.Name, Created: time.Now(), Image: f.images[0].ID, ImageRef: r.Spec.Image, Platform: brig.Platform{OS: "linux"}, Spec: r.Spec, HostConfig: r.HostConfig,
	}}
	s.in, s.feed = io.Pipe()
	f.ships = slices.Insert(f.ships, 0, s)
	return s.c.ID, []string{"from the engine"}, nil
}

func (f *fleet) Get(_ context.Context, ref string) (*brig.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	return s.c.Clone(), nil
}

func (f *fleet) List(context.Context) (out []*brig.Container, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.ships {
		out = append(out, s.c.Clone())
	}
	return out, nil
}

func (f *fleet) Remove(_ context.Context, ref string, o brig.RemoveOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return err
	}
	if o.Link {
		return errs.New(errs.Internal, "Conflict, cannot remove the default link name of the container")
	}
	if s.c.State.Active() && !o.Force {
		return errs.New(errs.Conflict, "cannot remove container %q: container is running", "/"+s.c.Name)
	}
	f.ships = slices.DeleteFunc(f.ships, func(x *ship) bool { return x == s })
	return nil
}

func (f *fleet) Rename(_ context.Context, ref, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err == nil {
		s.c.Name = name
	}
	return err
}

func (f *fleet) Start(_ context.Context, ref string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return err
	}
	if s.c.State == brig.Running {
		return errs.New(errs.NotModified, "running")
	}
	if err := s.c.State.Move(brig.Running); err != nil {
		return err
	}
	s.c.State, s.c.StartedAt, s.c.PID = brig.Running, time.Now(), 77
	outs, serrs := fanout{f, s, false}, fanout{f, s, true}
	go func() {
		code := s.prog(s.in, outs, serrs)
		f.finish(s, code)
	}()
	return nil
}

// fanout writes to everyone who is attached.
type fanout struct {
	f      *fleet
	s      *ship
	stderr bool
}

func (o fanout) Write(b []byte) (int, error) {
	o.f.mu.Lock()
	streams := slices.Clone(o.s.streams)
	o.f.mu.Unlock()
	for _, io := range streams {
		if w := io.Stdout; !o.stderr && w != nil {
			w.Write(b)
		}
		if w := io.Stderr; o.stderr && w != nil {
			w.Write(b)
		}
	}
	return len(b), nil
}

func (f *fleet) finish(s *ship, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.c.State != brig.Running {
		return
	}
	s.c.State, s.c.ExitCode, s.c.FinishedAt, s.c.PID = brig.Exited, code, time.Now(), 0
	s.exit = brig.Exit{Code: code}
	s.in.Close()
	close(s.ended)
	for _, w := range s.waiters {
		w <- s.exit
	}
	s.waiters = nil
}

func (f *fleet) Stop(ctx context.Context, ref string, o brig.StopOptions) error {
	return f.Kill(ctx, ref, o.Signal)
}

func (f *fleet) Restart(ctx context.Context, ref string, o brig.StopOptions) error {
	return f.Kill(ctx, ref, o.Signal)
}

func (f *fleet) Kill(_ context.Context, ref, _ string) error {
	f.mu.Lock()
	s, err := f.find(ref)
	f.mu.Unlock()
	if err == nil {
		f.finish(s, 137)
	}
	return err
}

func (f *fleet) Wait(_ context.Context, ref string, c brig.WaitCondition) (<-chan brig.Exit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	ch := make(chan brig.Exit, 1)
	if c == brig.WaitNotRunning && !s.c.State.Active() {
		ch <- s.exit
	} else {
		s.waiters = append(s.waiters, ch)
	}
	return ch, nil
}

func (f *fleet) Update(_ context.Context, ref string, change func(*brig.Container) error) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err == nil {
		err = change(s.c)
	}
	return nil, err
}

func (f *fleet) Pause(_ context.Context, ref string) error   { return f.move(ref, brig.Paused) }
func (f *fleet) Unpause(_ context.Context, ref string) error { return f.move(ref, brig.Running) }

func (f *fleet) move(ref string, to brig.State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err == nil {
		err = s.c.State.Move(to)
	}
	if err == nil {
		s.c.State = to
	}
	return err
}

func (f *fleet) Attach(ctx context.Context, ref string, o brig.AttachOptions, streams brig.IO) error {
	f.mu.Lock()
	s, err := f.find(ref)
	if err == nil {
		s.streams = append(s.streams, streams)
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	streams.Attached()
	if strings.Contains(s.c.Name, "broken") {
		return errors.New("the shim does not answer")
	}
	return pipeIn(ctx, streams, s.feed, s.ended)
}

// pipeIn copies stdin until the process or the context has ended, and leaves no goroutine behind.
func pipeIn(ctx context.Context, streams brig.IO, feed *io.PipeWriter, ended <-chan struct{}) error {
	copied := make(chan error, 1)
	if streams.Stdin != nil {
		go func() {
			_, err := io.Copy(feed, streams.Stdin)
			if err == nil && streams.CloseStdin {
				feed.Close()
			}
			copied <- err
		}()
		defer func() { streams.Stdin.(io.Closer).Close(); <-copied }()
	}
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			feed.CloseWithError(ctx.Err())
			return ctx.Err()
		case err := <-copied:
			copied <- err
			if errors.Is(err, brig.ErrDetached) {
				return err
			}
			select {
			case <-ended:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (f *fleet) Resize(ctx context.Context, ref string, _, _ uint) error {
	_, err := f.Get(ctx, ref)
	return err
}

func (f *fleet) Logs(ctx context.Context, ref string, o brig.LogOptions, each func(brig.LogEntry) error) error {
	for _, e := range f.log {
		if err := each(e); err != nil {
			return err
		}
	}
	if o.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fleet) Top(_ context.Context, ref string, args []string) (brig.Processes, error) {
	return brig.Processes{Titles: []string{"PID"}, Rows: [][]string{args}}, nil
}

func (f *fleet) Changes(context.Context, string) ([]brig.Change, error) {
	return []brig.Change{{Path: "/etc", Kind: brig.ChangeModified}, {Path: "/new", Kind: brig.ChangeAdded}, {Path: "/gone", Kind: brig.ChangeDeleted}}, nil
}

func (f *fleet) ExecCreate(_ context.Context, ref string, spec brig.ExecSpec) (brig.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.find(ref)
	if err != nil {
		return "", err
	}
	e := &brig.Exec{ID: brig.NewID(), Container: s.c.ID, Spec: spec}
	f.execs[e.ID] = e
	return e.ID, nil
}

func (f *fleet) ExecStart(ctx context.Context, id string, detach bool, streams brig.IO) error {
	e, err := f.begin(id)
	if err != nil {
		return err
	}
	if e.Spec.Args[0] == "nope" {
		f.execEnds(e, 127)
		if !detach {
			streams.Attached()
		}
		return errs.New(errs.Invalid, "OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH")
	}
	if detach {
		return nil
	}
	streams.Attached()
	in, feed := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.execEnds(e, f.prog(in, streams.Stdout, streams.Stderr))
		in.Close()
	}()
	return pipeIn(ctx, streams, feed, ended)
}

func (f *fleet) begin(id string) (*brig.Exec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.execs[brig.ID(id)]
	if !ok {
		return nil, errs.New(errs.NotFound, "No such exec instance: %s", id)
	}
	if e.Started {
		return nil, errs.New(errs.Conflict, "exec command %s has already run", id)
	}
	e.Started = true
	return e, nil
}

func (f *fleet) execEnds(e *brig.Exec, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.ExitCode = &code
}

func (f *fleet) ExecGet(_ context.Context, id string) (*brig.Exec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.execs[brig.ID(id)]; ok {
		c := *e
		return &c, nil
	}
	return nil, errs.New(errs.NotFound, "No such exec instance: %s", id)
}

func (f *fleet) ExecResize(_ context.Context, id string, rows, cols uint) error {
	_, err := f.ExecGet(context.Background(), id)
	return err
}

func (f *fleet) StatPath(_ context.Context, ref, path string) (brig.PathStat, error) {
	b, ok := f.files[path]
	if !ok {
		return brig.PathStat{}, errs.New(errs.NotFound, "Could not find the file %s in container %s", path, ref)
	}
	return brig.PathStat{Name: path[1:], Size: int64(len(b)), Mode: 0o644, Mtime: "2026-01-02T03:04:05Z"}, nil
}

func (f *fleet) GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, brig.PathStat, error) {
	st, err := f.StatPath(ctx, ref, path)
	return io.NopCloser(strings.NewReader(string(f.files[path]))), st, err
}

func (f *fleet) PutArchive(_ context.Context, ref, path string, noOverwrite, uidgid bool, tar io.Reader) error {
	b, err := io.ReadAll(tar)
	f.files[path] = b
	return err
}

func (f *fleet) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	if _, err := f.Get(ctx, ref); err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader("a tar")), nil
}

func (f *fleet) ImageList(context.Context) ([]brig.ImageInfo, error) { return f.images, nil }

func (f *fleet) ImageGet(_ context.Context, ref string) (*brig.ImageInfo, error) {
	for i, img := range f.images {
		if slices.Contains(img.Tags, ref) || string(img.ID) == ref {
			return &f.images[i], nil
		}
	}
	return nil, errs.New(errs.NotFound, "No such image: %s", ref)
}

// others stands for backends that these tests don't call; calling one panics.
type others struct {
	Transfers
	ACIs
	Volumes
}

// fleetImages and fleetSystem keep the method sets apart: the fleet's List is not that of Networks.
type (
	fleetImages struct {
		Images
		f *fleet
	}
	fleetSystem struct{ System }
)

func (fleetSystem) Publish(brig.Event) {}

func (i fleetImages) ImageList(ctx context.Context) ([]brig.ImageInfo, error) {
	return i.f.ImageList(ctx)
}

func (i fleetImages) ImageGet(ctx context.Context, ref string) (*brig.ImageInfo, error) {
	return i.f.ImageGet(ctx, ref)
}

func (fleetSystem) Info(context.Context) (SystemInfo, error) {
	return SystemInfo{Runtimes: map[string]string{"runc": "/usr/bin/runc"}}, nil
}

// port is a server on a Unix socket with a fleet behind it.
type port struct {
	*fleet
	socket string
	client *http.Client
	server *Server
	t      *testing.T
}

func newPort(t *testing.T, prog program) *port {
	t.Helper()
	base := brig.Digest("sha256:" + strings.Repeat("a", 64))
	f := &fleet{prog: prog, execs: map[brig.ID]*brig.Exec{}, files: map[string][]byte{"/new": []byte("12345")}, images: []brig.ImageInfo{
		{Image: brig.Image{ID: base, Size: 100, Layers: []brig.Layer{{Chain: "sha256:c1"}}}, Tags: []string{"busybox", "busybox:latest"}},
		{Image: brig.Image{ID: brig.Digest("sha256:" + strings.Repeat("b", 64)), Layers: []brig.Layer{{Chain: "sha256:c1"}, {Chain: "sha256:c2"}}}, Tags: []string{"child:latest"}},
	}}
	s, err := New(Config{Backends: Backends{
		Containers: f, Lifecycle: f, Freezer: f, Updates: f, Meter: f, Terminals: f, Execs: f, Files: f, Images: fleetImages{f: f},
		Transfers: others{}, Pushes: struct{ Pushes }{}, Imports: struct{ Imports }{}, Commits: struct{ Commits }{}, Builds: struct{ Builds }{}, Contexts: struct{ Contexts }{}, Caches: struct{ Caches }{}, Distributions: struct{ Distributions }{}, ACIs: others{}, ACIBuilds: struct{ ACIBuilds }{}, Variants: struct{ Variants }{}, Trust: &keyring{}, Volumes: others{}, Networks: struct{ Networks }{}, Memberships: struct{ Memberships }{}, System: fleetSystem{}, Housekeeping: struct{ Housekeeping }{}, Identities: &notary{}, Pods: struct{ Pods }{}, PodLifecycle: struct{ PodLifecycle }{},
	}, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	p := &port{fleet: f, server: s, socket: t.TempDir() + "/s", t: t}
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", p.socket) }}
	p.client = &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return p
}
