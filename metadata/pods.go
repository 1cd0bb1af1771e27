package metadata

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// uuidRE is the canonical form of a UUID (RFC 9562, 4), in lower case.
var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// suffix ends the names of the files that pods are published in, after the UUID.
const suffix = ".json"

// pod is what is kept in memory of a pod. What it serves is read from its file each time: few ask, and rarely.
type pod struct {
	uuid   string
	places []brig.PodPlace
	rate   *bucket
	lines  *bucket // of the access log
	hidden atomic.Int64
	large  chan struct{} // has room for one: a request with a large body
}

// pods are those that are published.
type pods struct {
	dir *os.Root
	log *slog.Logger

	mu       sync.RWMutex
	byUUID   map[string]*pod
	bySource map[netip.Addr][]*pod
}

func newPods(dir *os.Root, log *slog.Logger) *pods {
	return &pods{dir: dir, log: log, byUUID: map[string]*pod{}, bySource: map[netip.Addr][]*pod{}}
}

// read reads a pod's file. fs.ErrNotExist: it is not published.
func (p *pods) read(uuid string) (*brig.PodIdentity, error) {
	b, err := p.dir.ReadFile(uuid + suffix)
	if err != nil {
		return nil, err
	}
	var id brig.PodIdentity
	if err := json.Unmarshal(b, &id); err != nil {
		return nil, errs.Wrap(err, "what is published of pod %s", uuid)
	}
	if id.UUID != uuid {
		return nil, errs.New(errs.Invalid, "the file of pod %s is pod %s's", uuid, id.UUID)
	}
	return &id, nil
}

// look takes over what is published of some pods, or of all for nil.
func (p *pods) look(uuids []string) (err error) {
	all := uuids == nil
	if all {
		if uuids, err = p.published(); err != nil {
			return err
		}
	}
	for _, uuid := range uuids {
		id, e := p.read(uuid)
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		p.set(uuid, id)
	}
	if all {
		for _, uuid := range p.uuids() {
			if !slices.Contains(uuids, uuid) {
				p.set(uuid, nil)
			}
		}
	}
	return err
}

// published lists the pods that there are files for.
func (p *pods) published() ([]string, error) {
	d, err := p.dir.Open(".")
	if err != nil {
		return nil, errs.Wrap(err, "list the published pods")
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	out := make([]string, 0, len(names))
	for _, n := range names {
		if uuid, ok := strings.CutSuffix(n, suffix); ok && uuidRE.MatchString(uuid) {
			out = append(out, uuid)
		}
	}
	return out, errs.Wrap(err, "list the published pods")
}

// set makes a pod known as id has it; nil: not any more.
func (p *pods) set(uuid string, id *brig.PodIdentity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.byUUID[uuid]
	if old != nil {
		for _, at := range old.places {
			rest := slices.DeleteFunc(slices.Clone(p.bySource[at.Source]), func(x *pod) bool { return x == old })
			if p.bySource[at.Source] = rest; len(rest) == 0 {
				delete(p.bySource, at.Source)
			}
		}
		delete(p.byUUID, uuid)
	}
	if id == nil {
		return
	}
	now := &pod{uuid: uuid, rate: newBucket(podRate), lines: newBucket(lineRate), large: make(chan struct{}, 1)}
	if old != nil { // what it has used up it has used up
		now.rate, now.lines, now.large = old.rate, old.lines, old.large
		now.hidden.Store(old.hidden.Load())
	}
	for _, at := range id.Places {
		now.places = append(now.places, brig.PodPlace{Source: plain(at.Source), Gateway: plain(at.Gateway)})
	}
	p.byUUID[uuid] = now
	for _, at := range now.places {
		if all := p.bySource[at.Source]; !slices.Contains(all, now) {
			p.bySource[at.Source] = append(slices.Clip(all), now)
		}
	}
}

// plain is an address as connections have it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// at lists the pods that may speak from source to gateway: several where they share a network stack.
func (p *pods) at(source, gateway netip.Addr) (out []*pod) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, x := range p.bySource[source] {
		if slices.Contains(x.places, brig.PodPlace{Source: source, Gateway: gateway}) {
			out = append(out, x)
		}
	}
	return out
}

func (p *pods) uuids() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]string, 0, len(p.byUUID))
	for uuid := range p.byUUID {
		out = append(out, uuid)
	}
	return out
}

// gateways are the addresses that some pod reaches the service at.
func (p *pods) gateways() map[netip.Addr]bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := map[netip.Addr]bool{}
	for _, x := range p.byUUID {
		for _, at := range x.places {
			out[at.Gateway] = true
		}
	}
	return out
}
