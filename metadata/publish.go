package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// publishWait is how long the start of a pod waits for the service.
const publishWait = 3 * time.Second

// PublisherConfig is what Open needs.
type PublisherConfig struct {
	Dir     string // keys, and what is published; its path may have 80 bytes
	Program string // path of brig-mds
	User    string // that it runs as: DefaultUser, a name, or UID[:GID]
	Issuer  string // of JWTs
	Log     *slog.Logger
}

// Publisher is brigd's side: it publishes pods, and sees to it that brig-mds runs while there are any. All methods may be called from
// several goroutines. It keeps the keys, so that it can verify without brig-mds.
type Publisher struct {
	cfg    PublisherConfig
	gid    int
	broken error // why there is no service at all
	proc   *survivor.Client

	rotating sync.Mutex // held while the keys are changed

	mu   sync.Mutex // guards what follows; proc's lock comes before it
	keys *Keys
	live map[string]bool // pods that are published
	sick error           // what the service couldn't do last
}

// Open makes the directories and keys if needed. It starts no process, and it never fails: Notes says what keeps the service from working.
func Open(cfg PublisherConfig) *Publisher {
	p := &Publisher{cfg: cfg, live: map[string]bool{}}
	uid, gid, err := owner(cfg.User)
	if err == nil {
		p.gid = gid
		err = p.prepare()
	}
	if err == nil {
		p.keys, err = LoadKeys(p.path("keys"))
	}
	if err == nil {
		err = p.recall()
	}
	p.broken = errs.As(errs.Unavailable, errs.Wrap(err, "no pod has a metadata service"))
	p.proc = survivor.Open(survivor.Config{
		Name: "brig-mds", Dir: p.path("run"), Program: cfg.Program, Protocol: protocol, Log: cfg.Log, Sync: p.sync, Idle: p.nothing,
		Args: []string{publishedFlag, p.path("pods"), userFlag, strconv.Itoa(uid) + ":" + strconv.Itoa(gid)},
		Env:  []string{"GOGC=50", "GOMEMLIMIT=12MiB", "GODEBUG=madvdontneed=1"},
	})
	return p
}

// Flags of brig-mds, after survivor.DirFlag.
const (
	publishedFlag = "--published"
	userFlag      = "--user" // UID:GID
)

func (p *Publisher) path(elem ...string) string {
	return filepath.Join(append([]string{p.cfg.Dir}, elem...)...)
}

// prepare makes the directories: what is published is its group's to read, everything else root's.
func (p *Publisher) prepare() error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{p.cfg.Dir, 0o710}, {p.path("pods"), 0o750}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(d.path, 0, p.gid); err != nil {
				return err
			}
		}
		if err := os.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// recall takes what an earlier brigd has published for live, until Sweep knows better.
func (p *Publisher) recall() error {
	entries, err := os.ReadDir(p.path("pods"))
	for _, e := range entries {
		if uuid, ok := strings.CutSuffix(e.Name(), suffix); ok && uuidRE.MatchString(uuid) {
			p.live[uuid] = true
		}
	}
	return errs.Wrap(err, "list the published pods")
}

// Published lists the UUIDs of the pods that are published, in order.
func (p *Publisher) Published() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.live))
}

// Close lets go of brig-mds, which goes on while pods are published. Without any it ends, and Close waits for that.
func (p *Publisher) Close() error {
	p.proc.Close()
	if p.nothing() && !p.proc.AwaitEnd(publishWait) {
		return errs.New(errs.Unavailable, "brig-mds doesn't end, though there is no pod")
	}
	return nil
}

// Notes says what keeps pods from their metadata, now.
func (p *Publisher) Notes() []string {
	if p == nil { // metadata is off
		return nil
	}
	if p.ails() != nil { // what was wrong may have been put right since
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.tell(ctx, "") // ails has the error
	}
	if err := errors.Join(p.broken, p.ails()); err != nil {
		return []string{"metadata service: " + err.Error()}
	}
	return nil
}

func (p *Publisher) ails() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sick
}

// URL implements runtime's Identities.
func (p *Publisher) URL(uuid string, gateway netip.Addr) string {
	if p.broken != nil || !gateway.IsValid() {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return "http://" + netip.AddrPortFrom(plain(gateway), Port).String() + tokenMark + p.keys.token(uuid)
}

// Publish implements runtime's Identities.
func (p *Publisher) Publish(ctx context.Context, id brig.PodIdentity) error {
	if p.broken != nil {
		return p.broken
	}
	if !uuidRE.MatchString(id.UUID) {
		return errs.New(errs.Invalid, "publish a pod: %q is no UUID", id.UUID)
	}
	if err := p.write(&id); err != nil {
		return errs.Wrap(err, "publish pod %s", id.UUID)
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	p.mark(id.UUID, true)
	return p.tell(ctx, id.UUID)
}

func (p *Publisher) mark(uuid string, live bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if live {
		p.live[uuid] = true
	} else {
		delete(p.live, uuid)
	}
}

// write replaces a pod's file. It need not survive a crash of the host: pods don't.
func (p *Publisher) write(id *brig.PodIdentity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(p.path("pods"), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if os.Geteuid() == 0 {
		err = errors.Join(err, f.Chown(0, p.gid))
	}
	err = errors.Join(err, f.Chmod(0o640), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), p.path("pods", id.UUID+suffix))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Withdraw implements runtime's Identities.
func (p *Publisher) Withdraw(ctx context.Context, uuid string) error {
	if p.broken != nil {
		return nil
	}
	err := os.Remove(p.path("pods", uuid+suffix))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	p.mark(uuid, false)
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	return errors.Join(errs.Wrap(err, "withdraw pod %s", uuid), p.tell(ctx, uuid))
}

// Sweep implements runtime's Identities.
func (p *Publisher) Sweep(ctx context.Context, live []string) error {
	if p.broken != nil {
		return p.broken
	}
	entries, err := os.ReadDir(p.path("pods"))
	if err != nil {
		return errs.Wrap(err, "list the published pods")
	}
	for _, e := range entries {
		uuid := strings.TrimSuffix(e.Name(), suffix)
		p.mark(uuid, false)
		if !slices.Contains(live, uuid) {
			err = errors.Join(err, os.Remove(p.path("pods", e.Name())))
		} else {
			p.mark(uuid, true)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	return errors.Join(err, p.tell(ctx, ""))
}

// tell has brig-mds look at a pod again; "": at all.
func (p *Publisher) tell(ctx context.Context, uuid string) error {
	p.proc.Lock()
	defer p.proc.Unlock()
	err := p.ask(ctx, uuid)
	if err != nil {
		p.proc.Heal()
	}
	return err
}

// ask is tell for who holds proc's lock.
func (p *Publisher) ask(ctx context.Context, uuid string) (err error) {
	for range 2 { // one that just ends has not read it
		err = p.proc.Connect(ctx, p.nothing())
		if errors.Is(err, survivor.ErrNone) {
			return nil
		}
		if err != nil {
			break
		}
		if !p.proc.Synced() || uuid == "" {
			err = p.sync(ctx)
		} else {
			var a answer
			if err = p.proc.Ask(ctx, &request{Request: survivor.Request{Op: opLook}, UUIDs: []string{uuid}}, &a); err == nil {
				err = a.err()
			}
		}
		if !errors.Is(err, survivor.ErrGone) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sick = err
	return err
}

// sync tells brig-mds everything. The caller holds proc's lock, and has connected.
func (p *Publisher) sync(ctx context.Context) error {
	p.mu.Lock()
	q := &request{Request: survivor.Request{Op: opSet}, Keys: p.keys, Issuer: p.cfg.Issuer}
	p.mu.Unlock()
	var a answer
	if err := p.proc.Ask(ctx, q, &a); err != nil {
		return err
	}
	p.proc.SetSynced()
	return a.err()
}

// nothing reports whether no pod is published.
func (p *Publisher) nothing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live) == 0
}

// Rotate makes a new key that signs from now on; what the former ones have signed verifies for keep longer.
func (p *Publisher) Rotate(ctx context.Context, keep time.Duration) error {
	if p.broken != nil {
		return p.broken
	}
	if keep < 0 {
		return errs.New(errs.Invalid, "old signatures can't verify for a negative time")
	}
	p.rotating.Lock()
	defer p.rotating.Unlock()
	next := p.now().Rotated(keep)
	if err := next.save(p.path("keys")); err != nil {
		return err
	}
	p.mu.Lock()
	p.keys = next
	p.mu.Unlock()
	return errs.Wrap(p.tell(ctx, ""), "tell brig-mds of the new key")
}

func (p *Publisher) now() *Keys {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

// VerifySignature reports whether signature is that of the pod uuid of content, which it reads to its end.
func (p *Publisher) VerifySignature(_ context.Context, uuid, signature string, content io.Reader) (bool, error) {
	if p.broken != nil {
		return false, p.broken
	}
	uuid = strings.ToLower(uuid)
	if !uuidRE.MatchString(uuid) {
		return false, errs.New(errs.Invalid, "%q is no UUID", uuid)
	}
	return p.now().Verify(uuid, signature, content)
}

// JWKS is the set of public keys that verify identity tokens, as JSON.
func (p *Publisher) JWKS(context.Context) ([]byte, error) {
	if p.broken != nil {
		return nil, p.broken
	}
	return p.now().JWKS()
}
