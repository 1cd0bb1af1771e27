package keeper

import (
	"maps"
	"net"
	"strconv"
	"sync"

	"github.com/brigd/brig/internal/errs"
)

// openers is how many resolvers are opened at a time, after a restart: most of it is waiting for the kernel.
const openers = 8

// set makes s what is served and returns what couldn't be. The caller holds mu.
func (k *keeper) set(s *State) (failed []error) {
	zones := make(map[string]*zone, len(s.Networks))
	for _, z := range s.Networks {
		zones[z.Network] = newZone(z, k.zones[z.Network])
	}
	k.zones, k.empty = zones, s.Empty()
	k.dropDesks(s.Resolvers)
	failed = append(k.setPorts(s.Ports), k.setResolvers(s.Resolvers)...)
	return append(failed, k.setDesks(s.Resolvers)...)
}

// setPorts frees what is not wanted before it opens what is new. The caller holds mu.
func (k *keeper) setPorts(want []Port) (failed []error) {
	clear(k.reserved)
	wanted := make(map[hostKey]bool, len(want))
	for i := range want {
		wanted[want[i].key()] = true
	}
	for key := range k.ports {
		if !wanted[key] {
			k.free(key)
		}
	}
	for _, p := range want {
		key := p.key()
		if !wanted[key] {
			failed = append(failed, errs.New(errs.Invalid, "port %s is wanted twice", key))
			continue
		}
		wanted[key] = false
		if err := k.setPort(p); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

func (k *keeper) setPort(p Port) error {
	have := k.ports[p.key()]
	if have == nil {
		return k.open(p)
	}
	if have.want.To == p.To {
		return nil
	}
	if err := have.aim(p.To); err != nil {
		k.free(p.key())
		return err
	}
	return nil
}

func (k *keeper) open(p Port) error {
	if p.HostPort == 0 {
		return errs.New(errs.Invalid, "port 0 of %s/%s can only be reserved", p.HostIP, p.Proto)
	}
	o, err := openPort(p, k.Log)
	if err != nil {
		return err
	}
	k.ports[p.key()] = o
	return nil
}

func (k *keeper) free(key hostKey) {
	if p := k.ports[key]; p != nil {
		p.close()
	}
	delete(k.ports, key)
	delete(k.reserved, key)
}

// reserve binds all or none. The caller holds mu.
func (k *keeper) reserve(want []Port) (out []Port, err error) {
	var mine []hostKey
	defer func() {
		if err != nil {
			out = nil
			for _, key := range mine {
				k.free(key)
			}
		}
	}()
	for _, p := range want {
		o, err := k.reserveOne(p)
		if err != nil {
			return nil, err
		}
		key := o.want.key()
		k.ports[key], k.reserved[key] = o, true
		mine, out = append(mine, key), append(out, o.want)
	}
	return out, nil
}

// reserveOne takes the port, or the first free one of its range.
func (k *keeper) reserveOne(p Port) (o *port, err error) {
	last := max(p.HostEnd, p.HostPort)
	p.HostIP, p.HostEnd = p.HostIP.Unmap(), 0
	for n := int(p.HostPort); n <= int(last); n++ {
		p.HostPort = uint16(n)
		if k.taken(&p) {
			err = errs.New(errs.Internal, "Bind for %s failed: port is already allocated", net.JoinHostPort(p.HostIP.String(), strconv.Itoa(n)))
			continue
		}
		if o, err = openPort(p, k.Log); err == nil {
			return o, nil
		}
	}
	return nil, err
}

// taken reports whether a port of ours is the same, on the same or on all addresses of the family. The caller holds mu.
func (k *keeper) taken(p *Port) bool {
	if p.HostPort == 0 {
		return false
	}
	for key := range k.ports {
		a, b := key.at.Addr(), p.HostIP
		if key.proto == p.Proto && key.at.Port() == p.HostPort && a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified()) {
			return true
		}
	}
	return false
}

// setResolvers closes those that are not wanted, or whose namespace is another now, opens new ones, and shows all the new names.
// The caller holds mu.
func (k *keeper) setResolvers(want []Resolver) (failed []error) {
	wanted := make(map[string]*Resolver, len(want))
	for i := range want {
		if wanted[want[i].Container] != nil {
			failed = append(failed, errs.New(errs.Invalid, "container %s has two resolvers", want[i].Container))
		}
		wanted[want[i].Container] = &want[i]
	}
	var wg sync.WaitGroup
	for id, r := range maps.Clone(k.resolvers) {
		if w := wanted[id]; w == nil || !r.serves(w) {
			delete(k.resolvers, id)
			wg.Go(r.close)
		}
	}
	wg.Wait()
	var mu sync.Mutex // guards failed and opened
	opened := map[string]*resolver{}
	places := make(chan struct{}, openers)
	for id, w := range wanted {
		if r := k.resolvers[id]; r != nil {
			if err := r.look(*w, k.zones); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			r, err := k.openResolver(w)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			}
			if r != nil {
				opened[id] = r
			}
		})
	}
	wg.Wait()
	maps.Copy(k.resolvers, opened)
	return failed
}

// openResolver serves w. With a resolver and an error something of it is not as wanted.
func (k *keeper) openResolver(w *Resolver) (*resolver, error) {
	r, err := openResolver(*w, k.visitor, &k.forwards, k.Log)
	if err != nil {
		return nil, errs.Wrap(err, "DNS of container %s", w.Container)
	}
	err = r.look(*w, k.zones)
	r.serve()
	return r, err
}
