package podspec

import (
	"encoding/json"
	"net/netip"
	"time"
)

// An Order is how brigd's API takes a request for a pod: the Request, and what no pod manifest has words for.
type Order struct {
	Request
	Name       string            `json:"name,omitempty"` // "": a random one
	Hostname   string            `json:"hostname,omitempty"`
	Network    string            `json:"network,omitempty"` // bridge, host, none, or a network's name; "": bridge
	DNS        []string          `json:"dns,omitempty"`     // name servers' addresses
	ExtraHosts []string          `json:"extraHosts,omitempty"`
	ShmSize    int64             `json:"shmSize,omitempty"` // bytes of the pod's /dev/shm; 0: 64 MiB
	Labels     map[string]string `json:"labels,omitempty"`  // Docker's, of each app's container
	Restart    string            `json:"restart,omitempty"` // Docker's restart policy for each app: NAME or on-failure:MAX; "": no
	LogDriver  string            `json:"logDriver,omitempty"`
	LogOptions map[string]string `json:"logOptions,omitempty"`
	Remove     bool              `json:"remove,omitempty"` // when the last of its apps has ended
	TTY        bool              `json:"tty,omitempty"`    // this and the next are for a pod of one app
	Stdin      bool              `json:"stdin,omitempty"`
}

// Made is the API's answer to an Order. A dry run has no UUID and no containers.
type Made struct {
	UUID      string          `json:"uuid,omitempty"`
	Name      string          `json:"name,omitempty"`
	Apps      []MadeApp       `json:"apps"`
	Manifest  json.RawMessage `json:"manifest"` // reified
	Isolators []Isolation     `json:"isolators"`
	Warnings  []string        `json:"warnings"`
}

// MadeApp is an app of a pod that was made.
type MadeApp struct {
	Name      string `json:"name"`
	Container string `json:"container,omitempty"` // ID
}

// The states of a pod.
const (
	StatePrepared = "prepared" // never started
	StateRunning  = "running"  // at least one app is
	StateExited   = "exited"
	StateRemoving = "removing"
)

// Info is a pod as the API shows it.
type Info struct {
	UUID       string            `json:"uuid"`
	Name       string            `json:"name"`
	State      string            `json:"state"`
	Created    time.Time         `json:"created"`
	AutoRemove bool              `json:"autoRemove,omitempty"`
	Hostname   string            `json:"hostname"`
	Networks   map[string]Place  `json:"networks,omitempty"` // while it runs
	Volumes    map[string]string `json:"volumes,omitempty"`  // the pod's empty volumes, and what docker volume calls them
	Apps       []AppInfo         `json:"apps"`
	Manifest   json.RawMessage   `json:"manifest,omitempty"` // reified; in an inspection alone
}

// Place is a pod's place in one network.
type Place struct {
	IPv4    netip.Addr `json:"ipv4,omitzero"`
	IPv6    netip.Addr `json:"ipv6,omitzero"`
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// AppInfo is one app as the API shows it.
type AppInfo struct {
	Name      string    `json:"name"`
	Container string    `json:"container"` // ID
	Image     string    `json:"image"`     // as it was named
	ImageID   string    `json:"imageID"`   // Docker's
	State     string    `json:"state"`     // of its container
	PID       int       `json:"pid,omitempty"`
	ExitCode  int       `json:"exitCode"` // of the last run
	Error     string    `json:"error,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	Command   []string  `json:"command"`
	Ports     []string  `json:"ports,omitempty"` // published: ADDRESS:PORT->PORT/PROTOCOL
	TTY       bool      `json:"tty,omitempty"`
	Restart   string    `json:"restart,omitempty"`
}
