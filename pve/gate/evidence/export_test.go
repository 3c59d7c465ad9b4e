package evidence

// RuleNames are those of all rules, for the test that each is met.
func RuleNames() (names []string) {
	for _, r := range rules() {
		names = append(names, r.name)
	}
	return append(names, "locked", unknownRule)
}

// MaxText is how long a verdict may be.
const MaxText = maxText

// Clean is what foreign text goes through.
var Clean = clean

// ParseUPID and TaskEnd read Proxmox's task logs.
var (
	ParseUPID = parseUPID
	TaskEnd   = taskEnd
)

// BlockStats is the answer to query-blockstats.
type BlockStats = blockStats

// ParseCounters makes the counters of it.
func ParseCounters(b BlockStats) []Counters { return b.counters() }

// ParseDisks reads /proc/diskstats.
var ParseDisks = parseDisks

// ReadLoad reads /proc/loadavg and its neighbours.
func (h *Host) ReadLoad(text string) { h.readLoad(text) }

// KernelLines is what is kept of a kernel log.
var KernelLines = kernelLines
