"""k-means as compiled XLA."""

from fsljax.clustering.kmeans import KMeansResult, kmeans, kmeans_per_class

__all__ = ["KMeansResult", "kmeans", "kmeans_per_class"]
