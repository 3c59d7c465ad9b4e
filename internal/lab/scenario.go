package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bgbot/pve"
)

// Scenario is one practice incident.
type Scenario struct {
	Name   string
	Title  string
	Story  string   // two sentences, shown when the drill starts
	Prompt string   // what the operator types
	Hint   string   // for a person who is stuck
	Power  pve.Verb // the verb without which the VM does not come back; empty if a repair inside the VM is enough
	VMs    []string // on which it can be practised: [Simulated], [QEMU]

	image   string                            // the simulated guest's disk at the start
	fault   func(context.Context, *Lab) error // injects what is not on that disk, and proves that it is there
	script  func(*talk)                       // the scripted agent's turn
	closing string                            // how its last word begins, once all is well
	inside  bool                              // no verb helps, so a drill without a model could not be won
}

// Scenarios lists all of them in the order in which help shows them.
func Scenarios() []Scenario {
	both, realOnly := []string{Simulated, QEMU}, []string{QEMU}
	return []Scenario{
		{
			Name:  "disk-full",
			Title: "/var is full",
			Story: "A forgotten trace log has filled /var, and t3-serve is down because it cannot write. " +
				"SSH still works; a repair inside the VM is enough.",
			Prompt: "t3-serve is down and every build says no space left on device, please look",
			Hint:   "Ask for the disks, or type: vm status. Freeing space in /var and restarting t3-serve is the repair.",
			VMs:    both, image: "full", fault: fillDisk, script: diskFull, closing: "t3-serve runs again.**",
		},
		{
			Name:  "io-stall",
			Title: "the disk hangs inside QEMU",
			Story: "The block layer of the VM's QEMU process stands still: logins and memory work, everything that touches the disk hangs. " +
				"A reset keeps that process, so only a cycle brings the VM back.",
			Prompt: "devvm is frozen, please look",
			Hint:   "Type: vm cycle. A reset reboots the guest inside the same wedged QEMU and does not help.",
			Power:  pve.Cycle,
			VMs:    both, image: "healthy", fault: stallDisk, script: ioStall, closing: "devvm is back.**",
		},
		{
			Name:  "wedged-loop",
			Title: "QEMU itself hangs",
			Story: "The VM's QEMU process runs nothing any more, and does not answer its own host either. " +
				"No login gets an answer, so nothing can be repaired inside; only a cycle brings the VM back.",
			Prompt: "devvm is gone: ssh hangs without a word, please look",
			Hint:   "Type: vm cycle. QEMU does not hear qm's polite words, so the stop takes some seconds longer.",
			Power:  pve.Cycle,
			VMs:    realOnly, fault: stopQEMU, script: wedgedLoop, closing: "devvm is back.**",
		},
		{
			Name:  "panic",
			Title: "the guest's kernel has crashed",
			Story: "The guest's kernel has panicked: QEMU is well, the host says running, and nothing in the VM answers. " +
				"Only the picture of its screen tells why; a reset is enough.",
			Prompt: "devvm does not answer at all, please look",
			Hint:   "Type: vm forensics, which brings the picture of the screen, then: vm reset.",
			Power:  pve.Reset,
			VMs:    realOnly, fault: crashKernel, script: kernelPanic, closing: "devvm is back.**",
		},
		{
			Name:  "oom",
			Title: "the memory is used up",
			Story: "A code indexer has taken all memory, and the kernel has killed t3-serve for it; each new start is killed again. " +
				"SSH works, slowly; a repair inside the VM is enough.",
			Prompt: "t3-serve dies again and again, please look",
			Hint:   "Ask for the memory. Stopping t3-indexer and restarting t3-serve is the repair.",
			VMs:    realOnly, fault: leakMemory, script: outOfMemory, closing: "t3-serve runs again.**",
		},
		{
			Name:  "service-down",
			Title: "t3-serve does not start",
			Story: "Somebody has mistyped a line of t3-serve's configuration, and it does not start any more. " +
				"The VM is well; the repair is inside it, and a reboot would not change a thing.",
			Prompt: "t3-serve is down since the last config change, please look",
			Hint:   "Ask for the failed services. Correcting /etc/t3-serve/config.toml and restarting t3-serve is the repair.",
			VMs:    realOnly, fault: breakConfig, script: serviceDown, closing: "t3-serve runs again.**", inside: true,
		},
		{
			Name:  "locked",
			Title: "a backup holds the VM",
			Story: "t3-serve was stopped for a backup and never started again, and the backup still runs: Proxmox has locked the VM. " +
				"Every change from outside is refused, rightly; the repair is inside the VM.",
			Prompt: "t3-serve is down since the backup, please cycle devvm",
			Hint:   "Try: vm cycle. It is refused, and nothing is touched. Starting t3-serve inside the VM is the repair.",
			VMs:    realOnly, fault: lockForBackup, script: lockedVM, closing: "t3-serve runs again.**", inside: true,
		},
	}
}

// Unfit is the error of [Start] for a scenario that the options do not go with.
type Unfit struct{ why string }

func (e *Unfit) Error() string { return e.why }

// UserMessage is the error as a person reads it.
func (e *Unfit) UserMessage() string { return e.Error() }

// UnknownScenario is the error of [Start] for a name that is not in [Scenarios].
type UnknownScenario struct{ Name, VM string }

func (e *UnknownScenario) Error() string {
	var names []string
	for _, s := range Scenarios() {
		if slices.Contains(s.VMs, e.VM) {
			names = append(names, s.Name)
		}
	}
	return fmt.Sprintf("%q is not a practice incident; use one of: %s.", e.Name, strings.Join(names, ", "))
}

// UserMessage is the error as a person reads it.
func (e *UnknownScenario) UserMessage() string { return e.Error() }

func scenario(name, vm string) (Scenario, error) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, &UnknownScenario{Name: name, VM: vm}
	}
	return all[i], nil
}

// Check is the error that [Start] has for options that do not go together, without starting anything.
func (o Options) Check() error {
	_, err := o.choose()
	return err
}

// choose finds the scenario and looks whether it goes with the other options.
func (o *Options) choose() (Scenario, error) {
	if o.VM == "" {
		o.VM = Simulated
	}
	if o.VM != Simulated && o.VM != QEMU {
		return Scenario{}, &Unfit{fmt.Sprintf("%q is no kind of VM; use one of: %s, %s.", o.VM, Simulated, QEMU)}
	}
	s, err := scenario(o.Scenario, o.VM)
	switch {
	case err != nil:
		return s, err
	case !slices.Contains(s.VMs, o.VM):
		return s, &Unfit{fmt.Sprintf("%s cannot be simulated; practise it on a real VM: bgbot drill --vm %s %s", s.Name, QEMU, s.Name)}
	case o.BreakModel && s.inside:
		return s, &Unfit{fmt.Sprintf("%s needs a repair inside the VM, which no verb does; without a model, practise another one, such as io-stall.", s.Name)}
	}
	return s, nil
}
