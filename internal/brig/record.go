package brig

// A Record is one stored value.
type Record struct {
	Kind, Key string
	Value     []byte
	New       bool // Put: the key must not be there yet (Conflict)
}
