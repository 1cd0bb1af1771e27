package brig

// MountType is where a mount's content comes from.
type MountType string

// Docker's mount types that brig has.
const (
	MountBind   MountType = "bind"
	MountVolume MountType = "volume"
	MountTmpfs  MountType = "tmpfs"
)

// Mount is what a request asks for.
type Mount struct {
	Type        MountType
	Source      string // host path, volume name, or ""
	Target      string // absolute path inside
	ReadOnly    bool
	Propagation string // "": rprivate
	NoCopy      bool   // don't fill a new volume from the image
	Subpath     string // of a volume
	NonRecur    bool   // bind without submounts
	CreateSrc   bool   // make a missing bind source (-v does, --mount doesn't)
	Mode        string // the options as -v had them ("ro,z"), echoed by inspect
	TmpfsSize   int64  // bytes; 0: no limit
	TmpfsMode   uint32 // 0: 01777
	TmpfsOpts   string // --tmpfs's own options, "rw,noexec,size=1m"
	VolumeOpts  VolumeSpec
	Appc        bool // by appc's rules (ace.md, "Volume Setup"): no symbolic link leads to Source, and a file at Target gives way to a directory
}

// MountPoint is a resolved mount, as inspect shows it.
type MountPoint struct {
	Type        MountType
	Name        string // volume's
	Source      string // host path; "" for tmpfs
	Target      string
	Driver      string // volume's, "local"
	Mode        string
	RW          bool
	Propagation string
	NonRecur    bool
	Options     []string // tmpfs: mount(8) options
	Anonymous   bool     // removed by rm -v and --rm
	NoCopy      bool     // the image's content is not copied to it
}

// VolumeSpec is what a volume shall be.
type VolumeSpec struct {
	Name    string // "": 64 random hex digits, and anonymous
	Driver  string // "" or "local"
	Options map[string]string
	Labels  map[string]string
}

// VolumeMount is what a volume with options shows instead of data of its own, in mount(8)'s words.
type VolumeMount struct {
	Type, Device, Options string
	Dir                   OpenDir // if not nil, this directory is shown, whatever has its name by then
}

// OpenDir is an open directory, an os.File.
type OpenDir interface {
	Name() string
	Fd() uintptr
}

// Mount returns what the volume shows, as its options type, device and o say; ok is false if it has data of its own.
func (v VolumeSpec) Mount() (m VolumeMount, ok bool) {
	m = VolumeMount{Type: v.Options["type"], Device: v.Options["device"], Options: v.Options["o"]}
	return m, m.Device != ""
}

// Volume is a volume's record.
type Volume struct {
	VolumeSpec
	Dataset    RID
	Mountpoint string
	Created    string // RFC 3339
	Anonymous  bool
}
