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
	Leftovers  int      // root file systems, volumes and unfinished work that no record names
	Waiting    int      // what could not be deleted yet; brigd tries again
	Notes      []string // why
}
