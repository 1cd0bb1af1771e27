package brig

// A Record is one stored value.
type Record struct {
	Kind, Key string
	Value     []byte
	New       bool // Put: the key must not be there yet (Conflict)
}

// A BadRecord is one that its owner can't load. What it stood for isn't known, so nothing that it may have named can be told from garbage.
type BadRecord struct {
	Kind, Key, Problem string
	Also               []Record // that mean nothing without it
}
