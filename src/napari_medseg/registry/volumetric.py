"""Networks for volumes that are no U-Nets."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="vnet",
        target="napari_medseg.networks.vnet:VNet",
        family="residual and dense",
        year=2016,
        summary="V-Net: 5^n convolutions in residual stages, batch norm, ELU",
        when="For large structures in volumes, where its 5^n kernels see far; it has many weights.",
        reference="Milletari et al., 3DV 2016, doi:10.1109/3DV.2016.79",
        parameters={
            "width": Parameter(16, "features of the finest level; twice as many in each coarser one", 1, 128),
            "dropout": Parameter(0.0, "probability of dropping a whole feature map in the two deepest levels", 0, 0.95),
        },
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=45_597_898,
    ),
)
