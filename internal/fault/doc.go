// Package fault marks the places between two steps of which each changes something durable, so that tests can kill the process there
// and look at what the next start makes of it.
//
// Only with the build tag faults is there anything behind a Point. Then three variables rule it:
//
//	BRIG_FAULT=NAME[:N]    the process kills itself (SIGKILL) when it passes NAME for the Nth time (default: the first)
//	BRIG_FAULT_FILE=FILE   the process kills itself when it passes the point whose name FILE holds then
//	BRIG_FAULT_LOG=FILE    the name of each point passed is appended to FILE, one on a line
//
// A name is THING.STATE, and says what has just been done: "layer.placed" stands after the rename that places a layer. A point between
// two steps is enough; where a step is the last, one after it shows that nothing that follows is needed.
package fault
