# The driver's own Makefile, which DKMS calls: it asks the kernel's build folder, as the real one does.
KERNEL_UNAME ?= $(shell uname -r)
SYSSRC ?= /lib/modules/$(KERNEL_UNAME)/build

modules clean:
	$(MAKE) -C $(SYSSRC) M=$(CURDIR) $@

.PHONY: modules clean
