package brig

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// A Pod is several apps, each a container, that share a network stack, IPC, a host name and volumes (appc spec 0.8.11, pods.md). A container
// that names no pod is a pod of one app by itself, and has no record of this kind. Values handed out are copies (Clone); their owner is runtime.
type Pod struct {
	ID         ID // of what is shared; never a container's
	Name       string
	Created    time.Time
	Manifest   json.RawMessage   // the reified pod manifest
	Apps       []PodApp          // in the manifest's order
	Spec       Spec              // of what is shared: host name, networks, ports, DNS, hosts, /dev/shm
	Volumes    map[string]string // the pod's empty volumes by their names in the manifest, and what Docker's volumes of them are called
	Endpoints  map[string]Endpoint
	Sandbox    *Sandbox // nil while none of its apps is up
	AutoRemove bool     // goes when the last of its apps has ended
	Removing   bool     // its removal has begun, and is gone on with
}

// PodApp is one app of a pod.
type PodApp struct {
	Name      string
	Container ID
	Ports     []Port // that it has
}

// UUID is the pod's RFC 4122 UUID.
func (p *Pod) UUID() string { return PodUUID(p.ID) }

// App finds an app by its name; nil: there is none.
func (p *Pod) App(name string) *PodApp {
	if i := slices.IndexFunc(p.Apps, func(a PodApp) bool { return a.Name == name }); i >= 0 {
		return &p.Apps[i]
	}
	return nil
}

// PortOf names the app that has a port; it is the first one if none says so.
func (p *Pod) PortOf(port Port) string {
	for _, a := range p.Apps {
		if slices.Contains(a.Ports, port) {
			return a.Name
		}
	}
	return p.Apps[0].Name
}

// Clone returns a copy that shares nothing mutable with p. Spec, Manifest and Volumes are shared: they are replaced, never changed in place.
func (p *Pod) Clone() *Pod {
	q := *p
	q.Apps, q.Endpoints = slices.Clone(p.Apps), maps.Clone(p.Endpoints)
	if p.Sandbox != nil {
		s := *p.Sandbox
		q.Sandbox = &s
	}
	return &q
}

// PodSettings are what a request says of a pod beside its manifest.
type PodSettings struct {
	Name       string // "": a random one
	AutoRemove bool
	// Spec has the host name, networks, DNS, hosts, ports beside the manifest's, and /dev/shm of the pod, and labels, log and restart policy of each app. A
	// terminal, and an open standard input, are for a pod of one app. The rest is not looked at.
	Spec Spec
}

// A Sandbox is what the apps of a pod run in together, and what outlives each of them.
type Sandbox struct {
	ID       ID // the pod's
	Hostname string
	ShmSize  int64 // bytes of /dev/shm; 0: 64 MiB
	Netns    Netns // the network stack that the apps join
	// Where the shared namespaces and /dev/shm are on the host; "": the jailer has other means, or there is nothing to share.
	IPC, UTS, Shm string
}

// PodUUID gives an ID the form of a UUID: its first 128 bits, with the version and variant of a random one (RFC 9562). It is the UUID of the pod
// with that ID, and of the pod of one app that a container with that ID is.
func PodUUID(id ID) string {
	hex := []byte(id)
	if len(hex) < 32 {
		return "00000000-0000-0000-0000-000000000000"
	}
	u := append([]byte(nil), hex[:32]...)
	u[12] = '4'
	u[16] = "89ab"[nibble(u[16])&3]
	return string(u[:8]) + "-" + string(u[8:12]) + "-" + string(u[12:16]) + "-" + string(u[16:20]) + "-" + string(u[20:])
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
