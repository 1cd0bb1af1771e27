// Package jailspec turns a brig.Jail into what a FreeBSD jail is made of: parameters for jail_set(2), mounts, rctl(8) rules and processes.
// It is pure, one rule per file, so that it can be tested where there are no jails; jailer/shim executes what comes out.
package jailspec

import (
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/ocispec"
)

// Host is what the rules know of a FreeBSD host and of the daemon.
type Host struct {
	Release     int               // kern.osreldate: 1302001 is 13.2
	Racct       bool              // kern.racct.enable is 1
	VNET        bool              // jails can have network stacks of their own
	Shared      bool              // those in networks have addresses of the host's stack all the same
	Ruleset     int               // devfs ruleset of brig's own
	HardLimits  map[string]uint64 // the daemon's hard limits by RLIMIT_ name
	Kept        func(path string) []string
	SecureLevel func() int             // kern.securelevel as it is, -1 to 3; nil: it is low
	IsFile      func(path string) bool // of the host; nil: nothing is
	FileMounts  bool                   // a file can be mounted on: see SafeFileMounts
	CPUs        int                    // online
}

// Input is one jail and what belongs to it.
type Input struct {
	Jail     *brig.Jail
	Instance string
	Host     *Host
	User     ocispec.User
	Linux    bool   // the image is for Linux
	Shm      string // directory on the host that /dev/shm shows; "": a tmpfs of the jail's own
	PIDOf    string // name of the jail whose processes are to be seen; "": none
}

// A Bundle is one jail, as it is written to its run directory. Order matters in all lists.
type Bundle struct {
	Name   string   // of the jail, with its parents': PARENT.NAME
	Root   string   // its root file system on the host
	Path   string   // what it sees as its root: where Root is mounted again
	Params []Param  // for jail_set(2), the name among them
	Mounts []Mount  // made on the host before the jail, unmounted in reverse
	Links  []Link   `json:",omitempty"` // made before the mounts
	Rules  []string // rctl(8) rules, whole
	CPUs   string   // cpuset(1) list; "": all
	Main   Process
	Alone  bool `json:",omitempty"` // it has a network stack of its own, whose lo0 nobody else brings up
}

// Kind is the type of a parameter's value.
type Kind string

// The kinds. A boolean has no value: its name says it (allow.mlock, allow.nomlock).
const (
	Bool   Kind = "bool"
	Int    Kind = "int" // a C int, jailsys values included
	String Kind = "string"
)

// Param is one parameter of jail_set(2).
type Param struct {
	Name string
	Kind Kind
	Int  int32  `json:",omitempty"`
	Str  string `json:",omitempty"`
}

// Jailsys values (sys/jail.h).
const (
	sysDisable = 0
	sysNew     = 1
	sysInherit = 2
)

// Mount is one mount, made by nmount(2). Target is a path inside the jail, found beneath the root without following a link out of it.
// With Outside it is a path on the host.
type Mount struct {
	Type    string // nullfs, tmpfs, devfs, fdescfs, linprocfs, linsysfs
	From    string `json:",omitempty"`
	Sub     string `json:",omitempty"` // of a nullfs: a directory beneath From that is mounted instead, by way of Stage
	Stage   string `json:",omitempty"` // a path outside of the root where Sub is mounted first
	Target  string
	Outside bool        `json:",omitempty"`
	File    bool        `json:",omitempty"` // Target is a file where it has to be made
	Options [][2]string `json:",omitempty"` // to nmount(2), names and values
}

// Link shows a file of the host's in the jail without a mount of its own: the file has another name in the run directory's OwnFiles, which is
// mounted on OwnFilesAt, and Target is a symbolic link to it there.
type Link struct{ From, Target string }

// Process is what executes in a jail.
type Process struct {
	Args, Env       []string
	Cwd             string
	UID, GID        uint32
	Groups          []uint32
	Limits          []Limit `json:",omitempty"`
	NoNewPrivileges bool    `json:",omitempty"`
	TTY             bool    `json:",omitempty"`
	Rows, Cols      uint16  `json:",omitempty"` // of the terminal; 0: as it is
}

// Limit is one setrlimit(2). Name is RLIMIT_…; ^0 is no limit.
type Limit struct {
	Name       string
	Soft, Hard uint64
}

// A rule adds its part. Warnings say what this host can't give; errors are Invalid or NotImplemented.
type rule func(in *Input, b *Bundle) (warnings []string, err error)

var rules = []rule{identity, network, permissions, ipc, namespaces, mounts, process, limits, unsupported}

// Build applies all rules.
func Build(in *Input) (*Bundle, []string, error) {
	b := &Bundle{}
	var warnings []string
	for _, r := range rules {
		w, err := r(in, b)
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, w...)
	}
	return b, warnings, nil
}

// Warnings tells what of a spec this host can't give, before there is a jail. What is wrong with the spec is left for Build to say.
func Warnings(host *Host, spec *brig.Spec) (all []string) {
	in := &Input{Jail: &brig.Jail{ID: "0", Spec: *spec}, Host: host}
	b := &Bundle{}
	for _, r := range []rule{permissions, process, limits, unsupported} {
		if w, err := r(in, b); err == nil {
			all = append(all, w...)
		}
	}
	return all
}

func (b *Bundle) flag(name string) { b.Params = append(b.Params, Param{Name: name, Kind: Bool}) }
func (b *Bundle) number(name string, v int32) {
	b.Params = append(b.Params, Param{Name: name, Kind: Int, Int: v})
}
func (b *Bundle) text(name, value string) {
	b.Params = append(b.Params, Param{Name: name, Kind: String, Str: value})
}

// Name is the name of the jail id of an instance, beneath no other. It has no dot, which jails' names use for descent.
func Name(instance string, id brig.ID) string { return Prefix(instance) + string(id) }

// Prefix begins the names of all jails of an instance.
func Prefix(instance string) string { return "brig-" + instance + "-" }

// identity names the jail and what it says of itself.
func identity(in *Input, b *Bundle) ([]string, error) {
	j := in.Jail
	b.Name = Name(in.Instance, j.ID)
	if j.Netns.Path != "" {
		b.Name = j.Netns.Path + "." + b.Name // a jail without a network stack of its own has its parent's
	}
	if len(b.Name) > 255 { // MAXHOSTNAMELEN
		return nil, errs.New(errs.Invalid, "the jail's name %s is too long", b.Name)
	}
	b.text("name", b.Name)
	b.text("path", rootOf(in))
	b.flag("persist")
	if j.Spec.UTSMode != "host" {
		b.text("host.hostname", j.Hostname)
		b.text("host.domainname", j.Spec.Domainname)
		b.text("host.hostuuid", brig.PodUUID(podID(j)))
	}
	b.number("children.max", 0)
	b.number("devfs_ruleset", int32(in.Host.Ruleset))
	if in.Linux {
		b.number("enforce_statfs", 1) // df and mount in a Linux image look beyond the root's own mount
		b.number("linux", sysNew)
		b.text("linux.osname", "Linux")
		b.text("linux.osrelease", LinuxRelease)
	} else {
		b.number("enforce_statfs", 2)
	}
	return nil, nil
}

// podID is the ID of the pod that a jail is in, or is.
func podID(j *brig.Jail) brig.ID {
	if j.Pod != nil {
		return j.Pod.ID
	}
	return j.ID
}

// LinuxRelease is the kernel that Linux programs are told of: glibc of Debian 12 and its like asks for 3.2 at least, and programs choose system
// calls by it that FreeBSD's Linux ABI has had since 13.0.
const LinuxRelease = "5.15.0"
