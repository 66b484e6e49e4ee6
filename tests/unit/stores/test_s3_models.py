"""What is kept of botocore's models is as botocore has it, and all that a client needs."""

from typing import Any

from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.regions import EndpointResolver

from gateway.stores.s3_models import OPERATIONS, models

_PROSE = ("documentation", "documentationUrl")


def terse(node: Any) -> Any:
    """Leave prose empty, as it would be if botocore had none."""
    if isinstance(node, dict):
        return {
            name: "" if name in _PROSE and isinstance(each, str) else terse(each)
            for name, each in node.items()
        }
    return [terse(each) for each in node] if isinstance(node, list) else node


def test_the_operations_are_those_of_botocore() -> None:
    ours = models().load_service_model("s3", "service-2")
    whole = terse(create_loader().load_service_model("s3", "service-2"))
    for name in ("Initiated", "LastModified"):
        whole["shapes"][name]["type"] = "string"  # `s3_times` reads it
    assert set(ours["operations"]) == OPERATIONS
    for kind in ("operations", "shapes"):
        assert ours[kind] == {name: whole[kind][name] for name in ours[kind]}, kind
    assert len(ours["shapes"]) < len(whole["shapes"]) / 2
    rest = {name for name in whole if name not in {"operations", "shapes"}}
    assert {name: ours[name] for name in rest} == {name: whole[name] for name in rest}


def test_every_shape_that_an_operation_names_is_there() -> None:
    service = ServiceModel(models().load_service_model("s3", "service-2"), "s3")
    for name in service.operation_names:
        operation = service.operation_model(name)
        shapes = [operation.input_shape, operation.output_shape, *operation.error_shapes]
        open_shapes = [shape for shape in shapes if shape is not None]
        seen = set()
        while open_shapes:
            shape = open_shapes.pop()
            if shape.name in seen:
                continue
            seen.add(shape.name)
            open_shapes += getattr(shape, "members", {}).values()
            open_shapes += [
                each for kind in ("member", "key", "value") if (each := getattr(shape, kind, None))
            ]


def test_endpoints_and_rules_are_those_of_botocore() -> None:
    ours, whole = models(), create_loader()
    rules = ("s3", "endpoint-rule-set-1")
    assert ours.load_service_model(*rules) == terse(whole.load_service_model(*rules))
    assert ours.load_data("partitions") == terse(whole.load_data("partitions"))
    mine = EndpointResolver(ours.load_data("endpoints"))
    theirs = EndpointResolver(whole.load_data("endpoints"))
    assert mine.get_available_partitions() == theirs.get_available_partitions()
    for service in ("s3", "sts"):
        for region in ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"):
            endpoint = theirs.construct_endpoint(service, region)
            assert mine.construct_endpoint(service, region) == endpoint


def test_a_model_that_is_not_there_is_told_as_botocore_tells_it() -> None:
    assert models().file_loader.load_file("/nowhere/at-all") is None
