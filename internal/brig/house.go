package brig

// StoredChain is one image chain in a store.
type StoredChain struct {
	Chain Digest
	Size  int64 // bytes of regular files that its top layer brings
}

// Collected is what a garbage collection removed, or with a dry run would remove.
type Collected struct {
	DryRun     bool
	Layers     int
	LayerBytes int64 // uncompressed
	Blobs      int
	BlobBytes  int64    // as stored
	Parts      int      // unfinished downloads that nobody goes on with
	PartBytes  int64    // of their files
	Leftovers  int      // root file systems, volumes and unfinished work that no record names
	Waiting    int      // what could not be deleted yet; brigd tries again
	Notes      []string // why
}

// Kinds of a StoredItem.
const (
	StoredLayer     = "layer"
	StoredContainer = "container" // a root file system
	StoredVolume    = "volume"
	StoredWork      = "work"  // unfinished, or half deleted
	StoredMount     = "mount" // a mount point of a root file system
)

// A StoredItem is one thing that a store has, or should have.
type StoredItem struct {
	Kind  string
	RID   RID
	Chain Digest // of a layer that the store knows
	Lost  bool   // the store knows it, but its files are gone or damaged
	Stray bool   // the files are there, but the store doesn't know them (layers and work)
}

// Examination says how to look.
type Examination struct {
	Fix  bool // mend what can be mended
	Deep bool // read all blobs and compare them with their digests
}

// A Finding is one thing that is not as it should be.
type Finding struct {
	Check   string // what kind of thing: records, image, layer, container, volume, mount, jail, network, disk, host
	Subject string // which one
	Problem string
	Mend    string // what mending it does; "": brig can't
	Mended  bool
	Error   string // why mending failed
	Note    bool   // about the host, and for the operator to judge: no fault of brig's
	Command string // of a note: what the operator can run to mend it; "": there is nothing
}

// A Diagnosis is the result of an examination. Facts are pairs of a name and a value, for a person to read.
type Diagnosis struct {
	Facts    [][2]string
	Findings []Finding
}

// Add adds a finding; with fix it mends it first, if mend isn't nil.
func (d *Diagnosis) Add(f Finding, fix bool, mend func() error) {
	if fix && mend != nil {
		if err := mend(); err != nil {
			f.Error = err.Error()
		} else {
			f.Mended = true
		}
	}
	d.Findings = append(d.Findings, f)
}
