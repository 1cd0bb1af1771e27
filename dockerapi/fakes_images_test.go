package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
)

// An imageShelf is an image store in memory.
type imageShelf struct {
	mu        sync.Mutex
	images    []brig.ImageInfo
	loaded    []byte             // what Load read
	pulled    []brig.PullRequest // what was asked for
	imported  []brig.ImportRequest
	committed []brig.CommitRequest
	pull      func(ctx context.Context, r brig.PullRequest, report func(brig.Progress)) error // what Pull does after it has taken note
	load      func(tar io.Reader, report func(brig.Progress)) error                           // instead of reading all
}

func (f *imageShelf) find(ref string) (int, error) {
	for n, i := range f.images {
		if string(i.ID) == ref || slices.Contains(i.Tags, ref) || slices.Contains(i.Tags, ref+":latest") || slices.Contains(i.Digests, ref) {
			return n, nil
		}
	}
	return 0, errs.New(errs.NotFound, "No such image: %s", ref)
}

func (f *imageShelf) ImageList(context.Context) ([]brig.ImageInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.images), nil
}

func (f *imageShelf) ImageGet(_ context.Context, ref string) (*brig.ImageInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	i := f.images[n]
	return &i, nil
}

// ImageForEach gives those that have one name.
func (f *imageShelf) ImageForEach(_ context.Context, ref string) (out []brig.ImageInfo, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	for _, i := range f.images[n:] {
		if i.ID == f.images[n].ID || slices.ContainsFunc(i.Tags, func(tag string) bool { return slices.Contains(f.images[n].Tags, tag) }) {
			out = append(out, i)
		}
	}
	return out, nil
}

func (f *imageShelf) ImageFor(ctx context.Context, ref, platform string) (*brig.ImageInfo, error) {
	i, err := f.ImageGet(ctx, ref)
	if err == nil && platform != "" && !brig.ParsePlatform(platform).Suits(i.Platform) {
		err = errs.New(errs.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, i.Platform, platform)
	}
	return i, err
}

func (f *imageShelf) CheckImage(ctx context.Context, ref, platform, host string) (*elfcheck.Report, error) {
	i, err := f.ImageFor(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	h, err := elfcheck.ParseHost(host, "amd64")
	return &elfcheck.Report{Image: ref, ID: string(i.ID), Host: h.String(), Verdict: elfcheck.Degraded}, err
}

func (f *imageShelf) ImageRemove(_ context.Context, ref string, force, _ bool) ([]brig.ImageDeleted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	i := &f.images[n]
	if i.Containers > 0 && !force {
		return nil, errs.New(errs.Conflict, "conflict: unable to remove repository reference %q (must force)", ref)
	}
	var out []brig.ImageDeleted
	if k := slices.IndexFunc(i.Tags, func(t string) bool { return t == ref || t == ref+":latest" }); k >= 0 {
		out = append(out, brig.ImageDeleted{Untagged: i.Tags[k]})
		i.Tags = slices.Delete(slices.Clone(i.Tags), k, k+1)
	}
	if len(i.Tags) == 0 {
		out = append(out, brig.ImageDeleted{Deleted: string(i.ID)})
		f.images = slices.Delete(f.images, n, n+1)
	}
	return out, nil
}

func (f *imageShelf) ImageTag(_ context.Context, ref, repo, tag string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(ref)
	if err == nil {
		f.images[n].Tags = append(slices.Clone(f.images[n].Tags), repo+":"+tag)
	}
	return err
}

func (f *imageShelf) ImageHistory(_ context.Context, ref string) ([]brig.History, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find(ref)
	if err != nil {
		return nil, err
	}
	return []brig.History{
		{ID: string(f.images[n].ID), Created: time.Unix(7, 0), CreatedBy: "CMD", Tags: f.images[n].Tags},
		{ID: "<missing>", CreatedBy: "ADD", Size: 5},
	}, nil
}

func (f *imageShelf) Pull(ctx context.Context, r brig.PullRequest, report func(brig.Progress)) error {
	f.mu.Lock()
	f.pulled = append(f.pulled, r)
	f.mu.Unlock()
	if f.pull != nil {
		return f.pull(ctx, r, report)
	}
	return nil
}

func (f *imageShelf) Load(_ context.Context, tar io.Reader, platform string, report func(brig.Progress)) error {
	if f.load != nil {
		return f.load(tar, report)
	}
	b, err := io.ReadAll(tar)
	f.mu.Lock()
	f.loaded = b
	f.mu.Unlock()
	report(brig.Progress{ID: "0123456789ab", Status: "Loading layer", Current: 1, Total: 2})
	report(brig.Progress{Stream: "Loaded image: busybox:latest\n"})
	return err
}

func (f *imageShelf) Save(ctx context.Context, refs []string, w io.Writer) error {
	for _, ref := range refs {
		if _, err := f.ImageGet(ctx, ref); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "tar of "+strings.Join(refs, " "))
	return err
}

func (f *imageShelf) ImageBlob(ctx context.Context, ref, kind string) ([]byte, error) {
	i, err := f.ImageGet(ctx, ref)
	if err != nil {
		return nil, err
	}
	return []byte(kind + " of " + string(i.ID)), nil
}

func (f *imageShelf) ExportACI(ctx context.Context, ref string, w io.Writer) error {
	if _, err := f.ImageGet(ctx, ref); err != nil {
		return err
	}
	io.WriteString(w, "aci of "+ref)
	if ref == "broken" {
		return errs.New(errs.Internal, "the disk is gone")
	}
	return nil
}

// A volumeShelf keeps volumes in memory; busy ones can't be removed.
type volumeShelf struct {
	mu      sync.Mutex
	volumes map[string]*brig.Volume
	busy    map[string]bool
}

func (f *volumeShelf) VolumeCreate(_ context.Context, spec brig.VolumeSpec) (*brig.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := &brig.Volume{VolumeSpec: spec, Mountpoint: "/v/" + spec.Name, Created: "2026-01-01T00:00:00Z"}
	if v.Name == "" {
		v.Name, v.Anonymous = fmt.Sprintf("anon%d", len(f.volumes)), true
	}
	f.volumes[v.Name] = v
	return v, nil
}

func (f *volumeShelf) VolumeGet(_ context.Context, name string) (*brig.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.volumes[name]; ok {
		return v, nil
	}
	return nil, errs.New(errs.NotFound, "get %s: no such volume", name)
}

func (f *volumeShelf) VolumeList(context.Context) ([]*brig.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*brig.Volume
	for _, v := range f.volumes {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *brig.Volume) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (f *volumeShelf) VolumeRemove(ctx context.Context, name string, _ bool) error {
	if _, err := f.VolumeGet(ctx, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[name] {
		return errs.New(errs.Conflict, "remove %s: volume is in use", name)
	}
	delete(f.volumes, name)
	return nil
}

// VolumeSize is 10 bytes for each letter of the name.
func (f *volumeShelf) VolumeSize(ctx context.Context, name string) (int64, error) {
	_, err := f.VolumeGet(ctx, name)
	return 10 * int64(len(name)), err
}

// A netShelf is a fixed list of networks.
type netShelf struct {
	nets    []brig.Network
	members map[string]brig.EndpointSpec // by "network container"
}

func (f *netShelf) List(context.Context) ([]brig.Network, error) { return f.nets, nil }
func (f *netShelf) Lookup(_ context.Context, ref string) (brig.Network, error) {
	for _, n := range f.nets {
		if n.Name == ref || strings.HasPrefix(string(n.ID), ref) {
			return n, nil
		}
	}
	return brig.Network{}, errs.New(errs.NotFound, "network %s not found", ref)
}

func (f *netShelf) NetworkCreate(_ context.Context, w brig.Network) (brig.ID, error) {
	if _, err := f.Lookup(context.Background(), w.Name); err == nil {
		return "", errs.New(errs.Conflict, "network with name %s already exists", w.Name)
	}
	w.ID, w.Created = brig.NewID(), time.Now()
	f.nets = append(f.nets, w)
	return w.ID, nil
}

func (f *netShelf) NetworkRemove(ctx context.Context, ref string) error {
	w, err := f.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	if brig.Predefined(w.Name) {
		return errs.New(errs.Forbidden, "%s is a pre-defined network and cannot be removed", w.Name)
	}
	for key := range f.members {
		if strings.HasPrefix(key, w.Name+" ") {
			return errs.New(errs.Forbidden, "network %s has active endpoints", w.Name)
		}
	}
	f.nets = slices.DeleteFunc(f.nets, func(x brig.Network) bool { return x.ID == w.ID })
	return nil
}

func (f *netShelf) NetworkConnect(ctx context.Context, ref, container string, spec brig.EndpointSpec) error {
	w, err := f.Lookup(ctx, ref)
	if err == nil {
		f.members[w.Name+" "+container] = spec
	}
	return err
}

func (f *netShelf) NetworkDisconnect(ctx context.Context, ref, container string, _ bool) error {
	w, err := f.Lookup(ctx, ref)
	if err == nil {
		delete(f.members, w.Name+" "+container)
	}
	return err
}

// A containerShelf is a fixed list of containers.
type containerShelf struct {
	Containers
	list []*brig.Container
}

func (f containerShelf) List(context.Context) ([]*brig.Container, error) { return f.list, nil }
func (f containerShelf) Get(_ context.Context, ref string) (*brig.Container, error) {
	for _, c := range f.list {
		if c.Name == ref || string(c.ID) == ref {
			return c, nil
		}
	}
	return nil, errs.New(errs.NotFound, "No such container: %s", ref)
}

// hostFacts is a System that knows one user and sends the events that a test puts in.
type hostFacts struct {
	info         SystemInfo
	past         []brig.Event
	live         chan brig.Event
	since, until time.Time // of the last Events
	published    []brig.Event
	free         int64
}

func (f *hostFacts) Free(context.Context) (int64, error) { return f.free, nil }

func (f *hostFacts) Publish(e brig.Event) { f.published = append(f.published, e) }

func (f *hostFacts) Info(context.Context) (SystemInfo, error) { return f.info, nil }
func (f *hostFacts) CheckAuth(_ context.Context, server string, a brig.Auth) (string, error) {
	if a.Username != "u" || a.Password != "p" {
		return "", errs.New(errs.Unauthorized, "login attempt to %s failed with status: 401 Unauthorized", server)
	}
	return "Login Succeeded", nil
}

func (f *hostFacts) Events(ctx context.Context, since, until time.Time, ready func(), each func(brig.Event) error) error {
	f.since, f.until = since, until
	for _, e := range f.past {
		if err := each(e); err != nil {
			return err
		}
	}
	ready()
	if !until.IsZero() && until.Before(time.Now()) {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-f.live:
			if err := each(e); err != nil {
				return err
			}
		}
	}
}

// unused stands in for backends that a test doesn't reach: a call panics.
type unused struct {
	Lifecycle
	Freezer
	Updates
	Meter
	Terminals
	Execs
	Files
}

// A daemon is a Server over fakes that listens on a real Unix socket.
type daemon struct {
	images     *imageShelf
	volumes    *volumeShelf
	system     *hostFacts
	containers *containerShelf
	nets       *netShelf
	yard       *yard
	server     *Server
	socket     string
	client     *http.Client
	stop       func() // ends Serve and waits for it; idempotent
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{
		images: &imageShelf{}, volumes: &volumeShelf{volumes: map[string]*brig.Volume{}, busy: map[string]bool{}},
		system: &hostFacts{live: make(chan brig.Event)}, containers: &containerShelf{}, yard: &yard{},
		socket: filepath.Join(t.TempDir(), "api.sock"),
	}
	var u unused
	d.nets = &netShelf{members: map[string]brig.EndpointSpec{}, nets: []brig.Network{
		{ID: brig.ID(strings.Repeat("a", 64)), Name: "bridge", Driver: "bridge"},
		{ID: brig.ID(strings.Repeat("b", 64)), Name: "mine", Driver: "bridge", Labels: map[string]string{"k": "v"}},
	}}
	var err error
	d.server, err = New(Config{Version: "0.1", OSType: "linux", Backends: Backends{
		Containers: d.containers, Lifecycle: u, Freezer: u, Updates: u, Meter: u, Terminals: u, Execs: u, Files: u,
		Images: d.images, Transfers: d.images, Pushes: d.images, Imports: d.images, Commits: d.images, Builds: d.yard, Contexts: d.yard, Caches: d.yard, Distributions: d.images, ACIs: d.images, ACIBuilds: struct{ ACIBuilds }{}, Variants: d.images, Trust: &keyring{}, Volumes: d.volumes, Networks: d.nets, Memberships: d.nets, System: d.system, Housekeeping: struct{ Housekeeping }{}, Identities: &notary{}, Pods: struct{ Pods }{}, PodLifecycle: struct{ PodLifecycle }{},
	}})
	if err != nil {
		t.Fatal(err)
	}
	d.listen(t)
	return d
}

func (d *daemon) listen(t *testing.T) {
	l, err := Listen(t.Context(), d.server.log, "unix://"+d.socket, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(ctx, l) }()
	d.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		},
	}}
	d.stop = sync.OnceFunc(func() {
		d.client.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(d.stop)
}

// do sends a request; body is nil, an io.Reader, or a value to send as JSON.
func (d *daemon) do(t *testing.T, method, path string, body any) *http.Response {
	t.Helper()
	var r io.Reader
	ct := ""
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	default:
		doc, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r, ct = bytes.NewReader(doc), "application/json"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://brig"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if ct != "" {
		req.Header.Set("Content-Type", ct)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// want sends a request and returns the body, whose status it checks.
func (d *daemon) want(t *testing.T, status int, method, path string, body any) string {
	t.Helper()
	resp := d.do(t, method, path, body)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, b)
	}
	return string(b)
}

// object sends a GET and returns the JSON document as a generic value.
func (d *daemon) object(t *testing.T, path string) map[string]any {
	t.Helper()
	var m map[string]any
	if b := d.want(t, 200, "GET", path, nil); json.Unmarshal([]byte(b), &m) != nil {
		t.Fatalf("GET %s: not an object: %s", path, b)
	}
	return m
}

// message sends a request that is to fail and returns its message.
func (d *daemon) message(t *testing.T, status int, method, path string, body any) string {
	t.Helper()
	var m struct{ Message string }
	if b := d.want(t, status, method, path, body); json.Unmarshal([]byte(b), &m) != nil || m.Message == "" {
		t.Fatalf("%s %s: no message: %s", method, path, b)
	}
	return m.Message
}

// ImportACI takes anything but "broken" for an ACI, and tells what it was asked as a warning.
func (s *imageShelf) ImportACI(_ context.Context, r brig.ACIImport, progress func(brig.Progress)) (*brig.ACIImported, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	switch {
	case string(b) == "broken":
		return nil, errs.New(errs.Invalid, "invalid ACI: it has no manifest")
	case r.From == "late":
		progress(brig.Progress{ID: "x", Status: "Downloading", Current: 1, Total: 2})
		return nil, errs.New(errs.Unavailable, "the server went away")
	}
	got := &brig.ACIImported{ID: brig.DigestOf(b), ACI: "sha512-00", Name: "example.com/x", Ref: "example.com/x:1"}
	if r.From != "" || r.Signature != nil {
		got.Warnings = []string{fmt.Sprintf("%s %q %v %v", r.From, r.Signature, r.Insecure, r.Discover)}
	}
	return got, nil
}

// ExportLayered knows the image "app" alone.
func (s *imageShelf) ExportLayered(_ context.Context, ref string, w io.Writer) error {
	if ref != "app" {
		return errs.New(errs.NotFound, "No such image: %s", ref)
	}
	_, err := io.WriteString(w, "tar")
	return err
}

// A keyring keeps trusted keys by prefix and fingerprint; a key's text is its fingerprint.
type keyring struct{ keys []brig.TrustedKey }

func (k *keyring) TrustList(context.Context) ([]brig.TrustedKey, error) { return k.keys, nil }

func (k *keyring) TrustFind(_ context.Context, prefix, url string, ring []byte, insecure bool) ([]brig.TrustedKey, error) {
	fp := string(ring)
	if fp == "" {
		fp = fmt.Sprint(prefix, url, insecure)
	}
	return []brig.TrustedKey{{Fingerprint: fp, Armored: fp}}, nil
}

func (k *keyring) TrustAdd(_ context.Context, prefix string, ring []byte) ([]brig.TrustedKey, error) {
	k.keys = append(k.keys, brig.TrustedKey{Prefix: prefix, Fingerprint: string(ring)})
	return k.keys[len(k.keys)-1:], nil
}

func (k *keyring) TrustRemove(_ context.Context, prefix, fingerprint string) error {
	for i, x := range k.keys {
		if x.Prefix == prefix && x.Fingerprint == fingerprint {
			k.keys = append(k.keys[:i], k.keys[i+1:]...)
			return nil
		}
	}
	return errs.New(errs.NotFound, "the key %s is not trusted for %s", fingerprint, prefix)
}
