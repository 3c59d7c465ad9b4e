package lab

import (
	"fmt"
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

	image   string // the guest's disk at the start
	closing string // how the scripted agent's last word begins, once all is well
	check   string // the command whose success on a fresh login means recovered
	stall   bool   // the block layer of the running QEMU stands still
}

// Scenarios lists all of them in the order in which help shows them.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name:  "disk-full",
			Title: "/var is full",
			Story: "A forgotten trace log has filled /var, and t3-serve is down because it cannot write. " +
				"SSH still works; a repair inside the VM is enough.",
			Prompt:  "t3-serve is down and every build says no space left on device, please look",
			Hint:    "Ask for the disks, or type: vm status. Freeing space in /var and restarting t3-serve is the repair.",
			image:   "full",
			closing: "t3-serve runs again.**",
			check:   "touch /var/tmp/.lab-check && sync && rm /var/tmp/.lab-check && systemctl is-active t3-serve",
		},
		{
			Name:  "io-stall",
			Title: "the disk hangs inside QEMU",
			Story: "The block layer of the VM's QEMU process stands still: logins and memory work, everything that touches the disk hangs. " +
				"A reset keeps that process, so only a cycle brings the VM back.",
			Prompt:  "devvm is frozen, please look",
			Hint:    "Type: vm cycle. A reset reboots the guest inside the same wedged QEMU and does not help.",
			Power:   pve.Cycle,
			image:   "healthy",
			closing: "devvm is back.**",
			check:   "touch /var/tmp/.lab-check && sync && rm /var/tmp/.lab-check && systemctl is-active t3-serve",
			stall:   true,
		},
	}
}

// UnknownScenario is the error of [Start] for a name that is not in [Scenarios].
type UnknownScenario struct{ Name string }

func (e *UnknownScenario) Error() string {
	var names []string
	for _, s := range Scenarios() {
		names = append(names, s.Name)
	}
	return fmt.Sprintf("%q is not a practice incident; use one of: %s.", e.Name, strings.Join(names, ", "))
}

// UserMessage is the error as a person reads it.
func (e *UnknownScenario) UserMessage() string { return e.Error() }

func scenario(name string) (Scenario, error) {
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, &UnknownScenario{Name: name}
}
